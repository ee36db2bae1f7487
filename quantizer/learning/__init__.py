"""Decisions of the search in, decisions improved by gradient out."""
