"""The engine on transformers, for every device that transformers supports."""
