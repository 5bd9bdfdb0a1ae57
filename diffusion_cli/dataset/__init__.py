"""Datasets, and the exact laws of those whose density is known."""
