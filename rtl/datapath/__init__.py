"""Levels and weights in, codes or ``y`` out."""
