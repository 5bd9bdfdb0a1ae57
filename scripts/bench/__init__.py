"""What scripts/benchmark measures, a module for each."""
