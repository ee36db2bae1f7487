"""Array configuration in, LUTs, gates and clock of its Verilog out."""
