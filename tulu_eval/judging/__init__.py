"""Asking a judge model which of two outputs is better: request, parse, cache, budget, and what its answers add up to."""
