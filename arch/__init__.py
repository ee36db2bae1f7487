"""What compiler, hardware and quantizer share: sizes, instruction set, MAC cells, costs.

Configuration in, derived sizes and layouts out; no Amaranth, no torch.
"""
