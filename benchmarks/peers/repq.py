"""RepQ-ViT (Li et al., ICCV 2023) on the vision transformer of ``nupes.examples``, in float that
holds the values of codes.

Inputs of linear layers have uniform codes, weights one range for each output channel. Behind the
norms in front of attention and of the hidden layer channels first have ranges of their own, which
become one range by factors and shifts that norm and weights take up. Weights of attention have
codes of base sqrt(2). Norms, softmax, sums and the residual stream stay in float. Beside the
published code: the pixels and the last layer have as many bits as ours (``ends``), and weights of
attention may have AdaLog's codes instead (``adalog``).
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers.codes import AdaLog, LogSqrt2, Uniform
from nupes.examples.pretrained.vit import Attention, Block, ViT

__all__ = ["quantize_repq"]

BATCH = 500
"""Images at a time."""


class QuantizedLinear:
    """A linear layer with codes for its input and its weights; ``own`` asks for a range for each
    channel of the input, until ``fold`` makes them one."""

    def __init__(self, layer: nn.Linear, weight_bits: int, input_bits: int, own: bool) -> None:
        self.weight = layer.weight.detach()
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.weight_bits = weight_bits
        self.codes = Uniform(weight_bits, 0)
        self.inputs = Uniform(input_bits, 2 if own else None)

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the layer makes of tokens (b, t, c) as their codes have them."""
        return F.linear(self.inputs(x), self.codes(self.weight), self.bias)

    def fold(self, norm: nn.LayerNorm) -> None:
        """Let all channels of the input have one range, the mean of theirs: equations 10 to 12."""
        assert self.inputs.step is not None
        steps, zeros = self.inputs.step.flatten(), self.inputs.zero.flatten()
        step, zero = steps.mean(), zeros.mean()
        factors = steps / step
        shifts = -zeros * steps / factors + zero * step
        norm.weight.data = norm.weight.data / factors
        norm.bias.data = norm.bias.data / factors - shifts
        self.weight = self.weight * factors
        moved = self.weight @ shifts
        self.bias = moved if self.bias is None else self.bias + moved
        self.inputs.axis, self.inputs.step, self.inputs.zero = None, step, zero
        self.codes = Uniform(self.weight_bits, 0)


class QuantizedAttention:
    """Attention with codes for both operands of each product."""

    def __init__(self, layer: Attention, weights: int, inputs: int, adalog: bool) -> None:
        self.heads = layer.heads
        self.qkv = QuantizedLinear(layer.qkv, weights, inputs, True)
        self.out = QuantizedLinear(layer.out, weights, inputs, False)
        self.query, self.key, self.value = (Uniform(inputs) for _ in range(3))
        self.weights = AdaLog(inputs) if adalog else LogSqrt2(inputs)

    def __call__(self, x: Tensor) -> Tensor:
        """Return what tokens (b, t, c) take of one another."""
        parts = self.qkv(x).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        scores = self.query(q) @ self.key(k).transpose(-2, -1) * q.shape[-1] ** -0.5
        weights, values = scores.softmax(-1), self.value(v)
        if isinstance(self.weights, AdaLog):
            coded = self.weights(weights, values, weights @ v)
        else:
            coded = self.weights(weights)
        return self.out((coded @ values).transpose(1, 2).flatten(2))


class QuantizedBlock:
    """A block with norms of its own."""

    def __init__(self, block: Block, weights: int, inputs: int, adalog: bool) -> None:
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.attention = QuantizedAttention(block.attention, weights, inputs, adalog)
        first, self.activation, second = block.mlp
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        self.first = QuantizedLinear(first, weights, inputs, True)
        self.second = QuantizedLinear(second, weights, inputs, False)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the tokens (b, t, c) with what both add."""
        x = x + self.attention(self.norm1(x))
        return x + self.second(self.activation(self.first(self.norm2(x))))

    def fold(self) -> None:
        """Let what both norms give have one range each."""
        self.attention.qkv.fold(self.norm1)
        self.first.fold(self.norm2)


class QuantizedViT:
    """A vision transformer in codes."""

    def __init__(self, module: ViT, weights: int, inputs: int, ends: int, adalog: bool) -> None:
        self.module = module
        self.pixels, self.patches = Uniform(ends), Uniform(ends, 0)
        self.blocks = []
        for block in module.blocks:
            assert isinstance(block, Block)
            self.blocks.append(QuantizedBlock(block, weights, inputs, adalog))
        self.head = QuantizedLinear(module.head, ends, ends, False)

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (b, classes) for images (b, channels, size, size)."""
        module = self.module
        pixels = self.pixels((images - module.mean) / module.std)
        conv, weight = module.patches, self.patches(module.patches.weight)
        x = F.conv2d(pixels, weight, conv.bias, conv.stride).flatten(2).transpose(1, 2)
        x = torch.cat([module.token.expand(len(x), -1, -1), x], 1) + module.positions
        for block in self.blocks:
            x = block(x)
        return self.head(module.norm(x[:, :1]))[:, 0]


@torch.no_grad()
def quantize_repq(
    module: ViT,
    weight_bits: int,
    activation_bits: int,
    images: np.ndarray,
    ends: int,
    adalog: bool = False,
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from images (n, c, h, w) to logits (n, classes)."""
    copied = copy.deepcopy(module).eval()
    network = QuantizedViT(copied, weight_bits, activation_bits, ends, adalog)
    samples = torch.from_numpy(images)
    network(samples)  # every range is found where it is first needed
    for block in network.blocks:
        block.fold()
    network(samples[:1])  # and those of the weights again

    @torch.no_grad()
    def infer(x: np.ndarray) -> np.ndarray:
        return torch.cat([network(part) for part in torch.from_numpy(x).split(BATCH)]).numpy()

    return infer
