"""Schedule in, exact cycles out."""
