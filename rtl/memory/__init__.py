"""The activation memory, and who reads and writes it."""
