"""Asks a judge model which of two outputs is better: requests, parsing, cache, budget, and scores from its answers."""
