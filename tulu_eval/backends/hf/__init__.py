"""The engine that runs wherever transformers does."""
