"""What may be chosen: the keys of every option, their ranges, and what may be built."""
