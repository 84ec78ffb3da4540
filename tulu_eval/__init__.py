"""Measure a language model with the exact recipe behind a published number, and say whether the two agree."""

__version__ = "0.1.0"
