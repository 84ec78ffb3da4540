"""Reads the number that a completion states as its answer; ``statement.py`` says what a statement is."""
