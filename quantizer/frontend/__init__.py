"""PyTorch module or exported program in, float graph out."""
