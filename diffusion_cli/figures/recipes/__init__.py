"""Recipes of figures: an components in, a figure out."""
