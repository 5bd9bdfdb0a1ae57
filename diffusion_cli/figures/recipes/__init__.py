"""Recipes of figures: functions of a run's components (or of many results) that give a figure.

Each is an option of the group `figure`: a YAML in configs/figure names it, and its other arguments are its keys. A figure
of your own is one such function, in a module of your own, and one such YAML.
"""
