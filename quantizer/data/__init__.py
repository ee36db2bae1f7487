"""What the user gives, or statistics of batch norms, in; calibration inputs out."""
