"""The rows that are trained on: the forms of files, rendered, tokenised, and shared by the ranks."""
