"""Activation words, weights and residual digits in; codes or ``y`` out."""
