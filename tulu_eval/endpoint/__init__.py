"""Asking an OpenAI-compatible server: a judge, or a served model."""
