"""PReLU, with one slope or one for each channel."""

from typing import Any

import numpy as np
import torch
from torch import fx
from torch.nn import functional as F

from nupes.quantizer.frontend.call import Call, value_shape
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.graph import Affine, Convolution
from nupes.quantizer.frontend.handlers.pointwise import add_function
from nupes.quantizer.frontend.registry import handles

__all__ = ["prelu"]

RELU = Function("relu", torch.relu)


@handles("prelu", "_prelu_kernel")
def prelu(call: Call, input: fx.Node, weight: Any) -> str:
    """Translate ``max(x, 0) - slope * max(-x, 0)``: one function if all slopes are one number, else
    the ReLU of ``x`` and ``-|slope| * x`` side by side, which reach as far as the result does, and
    their sums or differences, a convolution of pairs."""
    slopes = call.constant(weight, "slopes").reshape(-1)
    if (slopes == slopes[0]).all():
        slope = float(slopes[0])
        leaky = Function(f"leaky_relu({slope!r})", lambda x: F.leaky_relu(x, slope))
        return add_function(call, leaky, call.anywhere(input))
    source = call.source(input)
    height, width, channels = source.shape
    if not len(slopes) == channels == value_shape(input)[0]:
        call.refuse("PReLU of a flattened map is not supported; put it before the flatten")
    shape = (height, width, 2 * channels)
    factors = np.stack([np.ones(channels), -np.abs(slopes)], 1).ravel()
    signs = Affine(factors, np.zeros(2 * channels))
    both = call.add(signs, (source.name,), shape, "prelu")
    halves = call.add(RELU, (both,), shape, "prelu")
    kernel = np.stack([np.ones(channels), -np.sign(slopes)], 1).reshape(channels, 2, 1, 1)
    sums = Convolution(kernel, np.zeros(channels), groups=channels)
    return call.add(sums, (halves,), source.shape, "prelu")
