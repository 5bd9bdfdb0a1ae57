"""From arrays to matplotlib figures; knows no model, and never imports pyplot."""
