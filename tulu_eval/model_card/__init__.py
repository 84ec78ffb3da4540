"""Model cards: read, checked and made."""
