"""Conclusions from runs: agreement with published numbers, comparisons, audits, numbers of items, and the card's table."""
