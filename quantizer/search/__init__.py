"""Stages and calibration inputs in, codes of weights and tensors out."""
