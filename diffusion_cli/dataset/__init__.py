"""Datasets, and the exact densities of those that have one."""
