"""QONNX: the integer network in the form that FINN calls streamlined, equal to the last bit.

Tensors are float32 that hold integer levels. Weights are Quant nodes, an accumulator is a Conv, and
requantization, activation function and encoder together are one MultiThreshold with integer
thresholds on the accumulator (``thresholds``). Every sum is an integer below 2**24, which float32
holds exactly; more is refused.
"""

from nupes.export.qonnx.document import DOMAIN, OPSET, build_qonnx, export_qonnx

__all__ = ["DOMAIN", "OPSET", "build_qonnx", "export_qonnx"]
