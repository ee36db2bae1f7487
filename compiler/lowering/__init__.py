"""Layers in, passes of the array out."""
