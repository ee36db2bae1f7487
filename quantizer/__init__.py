"""PyTorch module and calibration data in, integer network out.

Torch lives here and nowhere else.
"""

from nupes.quantizer.api import quantize

__all__ = ["quantize"]
