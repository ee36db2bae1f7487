"""A language model of the Llama family (Touvron et al., 2023), such as stories260K.

Weights: ``stories260K.bin`` of karpathy/tinyllamas, in the format of llama2.c.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Llama", "LlamaShape", "load_llama"]

BASE = 10000.0
"""Of the wavelengths of rotary embeddings."""

SIZES = 7
"""Integers in front of the weights: width, hidden units, layers, heads, key heads, words, tokens.
"""


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a decoder for ``tokens`` tokens, of which ``heads / key_heads`` heads read the same
    keys and values."""

    tokens: int
    width: int = 64
    depth: int = 5
    heads: int = 8
    key_heads: int = 4
    hidden: int = 172
    words: int = 512
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        """Channels of a head."""
        return self.width // self.heads


class LlamaLayer(nn.Module):
    """Causal attention with rotary embeddings and a gated linear unit, each added to the tokens."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.head, self.repeats = shape.head, shape.heads // shape.key_heads
        keys = shape.key_heads * shape.head
        self.norm1 = nn.RMSNorm(shape.width, shape.epsilon)
        self.query = nn.Linear(shape.width, shape.width, bias=False)
        self.key = nn.Linear(shape.width, keys, bias=False)
        self.value = nn.Linear(shape.width, keys, bias=False)
        self.mix = nn.Linear(shape.width, shape.width, bias=False)
        self.norm2 = nn.RMSNorm(shape.width, shape.epsilon)
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.expand = nn.Linear(shape.width, shape.hidden, bias=False)
        self.project = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """Return the tokens (b, t, c), with tables (t, head)."""
        y = self.norm1(x)
        parts = self.query(y), self.key(y), self.value(y)
        q, k, v = (part.unflatten(-1, (-1, self.head)).transpose(1, 2) for part in parts)
        q, k = (turn(part, cosines, sines) for part in (q, k))
        k, v = (part.repeat_interleave(self.repeats, 1) for part in (k, v))
        taken = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(taken.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        return x + self.project(F.silu(self.gate(y)) * self.expand(y))


class Llama(nn.Module):
    """Ids of tokens (b, t) through layers; what the word after each token may be (b, t, words)."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.words, shape.width)
        self.layers = nn.ModuleList(LlamaLayer(shape) for _ in range(shape.depth))
        self.norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.head = nn.Linear(shape.width, shape.words, bias=False)
        frequencies = BASE ** -(torch.arange(0, shape.head, 2) / shape.head)
        angles = torch.outer(torch.arange(shape.tokens), frequencies).repeat_interleave(2, 1)
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits."""
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, self.cosines, self.sines)
        return self.head(self.norm(x))


def turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Return heads (b, heads, t, head) of which each pair of channels, as a point of a plane, is
    turned by its angle."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    across = torch.stack((-odd, even), -1).flatten(-2)
    return x * cosines + across * sines


def load_llama(path: str | os.PathLike[str], tokens: int) -> Llama:
    """Return the published network for sequences of so many tokens; a file whose number of words
    is positive has one table for its embedding and its head."""
    data = Path(path).read_bytes()
    width, hidden, depth, heads, key_heads, words, _ = np.frombuffer(data, "<i4", SIZES).tolist()
    if words <= 0:
        raise ValueError(f"{os.fspath(path)}: a head of its own is not supported")
    shape = LlamaShape(tokens, width, depth, heads, key_heads, hidden, words)
    values, first = np.frombuffer(data, "<f4", offset=4 * SIZES), 0

    def take(*sizes: int) -> Tensor:
        nonlocal first
        start, first = first, first + int(np.prod(sizes))
        return torch.from_numpy(values[start:first].reshape(sizes).copy())

    table, keys = take(words, width), key_heads * shape.head
    stacks = {
        "norm1": take(depth, width),
        "query": take(depth, width, width),
        "key": take(depth, keys, width),
        "value": take(depth, keys, width),
        "mix": take(depth, width, width),
        "norm2": take(depth, width),
        "gate": take(depth, hidden, width),
        "project": take(depth, width, hidden),
        "expand": take(depth, hidden, width),
    }
    own = {"embedding.weight": table, "head.weight": table, "norm.weight": take(width)}
    for name, stack in stacks.items():
        own |= {f"layers.{layer}.{name}.weight": stack[layer] for layer in range(depth)}
    module = Llama(shape).eval()
    module.load_state_dict(own)
    return module
