"""Runs in and out: files of other harnesses, and bundles for reviewers."""
