"""Tests of the compiler: every part against what it must mean, without a simulator."""
