"""What the network makes of an error, and what quantization did to it."""
