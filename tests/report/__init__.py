"""Tests of the report: its facts, its drawings, and the page in a browser."""
