"""One module for each group of blocks: what they are to do, written apart from how they do it."""
