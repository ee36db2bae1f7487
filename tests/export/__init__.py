"""Tests of the exports: what each file computes in its own tool, against the integer network."""
