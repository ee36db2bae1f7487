"""Integer network in, files for other tools out: ONNX, QONNX, C firmware; each computes the same
integers.
"""
