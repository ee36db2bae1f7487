"""PyTorch module and calibration data in, integer network out.

Torch lives here and nowhere else.
"""

from nupes.quantizer.quantize import quantize

__all__ = ["quantize"]
