"""Reads the number that a completion states as its answer; ``statement.py`` defines a statement."""
