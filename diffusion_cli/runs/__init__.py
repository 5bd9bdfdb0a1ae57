"""A run: its directory, checkpoints, signals, and what came of many."""
