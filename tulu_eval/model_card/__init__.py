"""Reads, checks and makes model cards."""
