"""The artifact: an integer network as one safetensors file, its graph as JSON metadata.

Data only, never code. Codes are packed to the bits that their codebook promises. Every integer is
stored; nothing is recomputed from a scale. A digest over the graph and all arrays makes a damaged
file an error instead of a wrong answer.
"""
