"""Schemes, bits and recipes: what the user asks for, checked."""
