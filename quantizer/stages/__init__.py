"""Float graph in, stages out; each stage is one layer of the integer network."""
