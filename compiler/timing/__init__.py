"""Instructions in, the cycle of everything that they do out: one module for each resource."""
