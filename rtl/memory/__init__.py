"""Addresses and results in, words of codes and residual digits out: the activation memory, its
residual reader and its write-back."""
