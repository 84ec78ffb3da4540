"""Reproduces the whole way from preference data to a verified row of a table, with a small model."""
