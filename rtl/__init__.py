"""The hardware: an array configuration in, Amaranth components and Verilog out.

``config`` and ``isa`` describe the machine without importing Amaranth; the compiler builds on those
two.
"""
