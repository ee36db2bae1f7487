"""Tests of the integer model against references written with Python integers and plain loops."""
