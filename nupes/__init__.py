"""From a trained PyTorch network to low-bit silicon, equal to the last bit at every stage."""
