"""Standard ONNX: the integer network in integer operators of the default domain, equal to the last
bit.

Feature maps are NCHW codes (uint8). Every sum over taps and channels is a ConvInteger
(``convolution``), every requantization is in int64 (``requantize``).
"""

from nupes.export.onnx.document import OPSET, InputKind, build_onnx, export_onnx

__all__ = ["OPSET", "InputKind", "build_onnx", "export_onnx"]
