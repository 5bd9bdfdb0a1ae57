"""Recipes of figures: an experiment in, a figure out."""
