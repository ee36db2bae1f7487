"""Codes of tensors and weights: candidates, rounding, and what has been decided."""
