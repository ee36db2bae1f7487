"""Tensors in, addresses of the activation memory out."""
