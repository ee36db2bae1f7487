"""Measurements on published networks; each script prints its table and can write it as JSON."""
