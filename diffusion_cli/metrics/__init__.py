"""How far samples are from the truth."""
