"""Tests of the hardware blocks in the Python simulator, against the integer model."""
