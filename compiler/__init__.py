"""Integer network and array configuration in, program image and exact cycle prediction out."""
