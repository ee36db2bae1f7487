"""Runnable examples and the networks that the benchmarks quantize."""
