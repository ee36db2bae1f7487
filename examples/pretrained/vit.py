"""Vision transformers (Dosovitskiy et al., 2021) with a class token: the one for MNIST, and the
shape of DeiT-Tiny (Touvron et al., 2021).

Weights of the former: ``vit_mnist_gpu.pt`` of researchase/vit-mnist-explorations. Input: digits in
0..1, float32 (b, 1, 28, 28); the normalisation is part of the module.
"""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DEIT_TINY", "MNIST", "Shape", "ViT", "load_vit"]


@dataclass(frozen=True)
class Shape:
    """Sizes of a vision transformer; images and patches are squares."""

    image: int
    patch: int
    channels: int
    width: int
    depth: int
    heads: int
    head: int
    hidden: int
    classes: int
    activation: type[nn.Module] = nn.GELU
    biases: bool = True
    epsilon: float = 1e-6

    @property
    def patches(self) -> int:
        """Tokens without the class token."""
        return (self.image // self.patch) ** 2


MNIST = Shape(28, 4, 1, 64, 6, 4, 64, 128, 10, activation=nn.ReLU, biases=False, epsilon=1e-5)

DEIT_TINY = Shape(224, 16, 3, 192, 12, 3, 64, 768, 1000)


class Attention(nn.Module):
    """Self-attention with one projection to queries, keys and values."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inner = shape.heads * shape.head
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * inner, bias=shape.biases)
        self.out = nn.Linear(inner, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what tokens (b, t, c) take of one another."""
        parts = self.qkv(x).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and two linear layers on normalized tokens, each added to the tokens."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, shape.epsilon)
        self.attention = Attention(shape)
        self.norm2 = nn.LayerNorm(shape.width, shape.epsilon)
        self.mlp = nn.Sequential(
            nn.Linear(shape.width, shape.hidden),
            shape.activation(),
            nn.Linear(shape.hidden, shape.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens (b, t, c) with what both add."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches and a class token through blocks; the classes are those of the class token. Pixels
    have ``mean`` and ``std``."""

    def __init__(self, shape: Shape, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.patches = nn.Conv2d(shape.channels, shape.width, shape.patch, shape.patch)
        self.token = nn.Parameter(torch.randn(1, 1, shape.width))
        self.positions = nn.Parameter(torch.randn(1, shape.patches + 1, shape.width))
        self.blocks = nn.Sequential(*(Block(shape) for _ in range(shape.depth)))
        self.norm = nn.LayerNorm(shape.width, shape.epsilon)
        self.head = nn.Linear(shape.width, shape.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (b, classes) for images (b, channels, size, size)."""
        x = self.patches((x - self.mean) / self.std).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x)[:, 0]))


NAMES = {
    "pos_embedding": "positions",
    "cls_token": "token",
    "to_patch_embedding.1": "patches",
    "0.norm": "norm1",
    "0.fn.to_qkv": "attention.qkv",
    "0.fn.to_out.0": "attention.out",
    "1.norm": "norm2",
    "1.fn.net.0": "mlp.0",
    "1.fn.net.3": "mlp.2",
    "mlp_head.0": "norm",
    "mlp_head.1": "head",
}
"""Parts of the published names, and what they are here."""


def load_vit(path: str | os.PathLike[str]) -> ViT:
    """Return the network for MNIST with the published weights of ``vit_mnist_gpu.pt``."""
    network = ViT(MNIST, 0.1307, 0.3081).eval()
    state = {}
    for name, value in torch.load(path, map_location="cpu", weights_only=True).items():
        state[rename(name)] = value
    weight = state["patches.weight"]  # of patches (row, column), one channel
    state["patches.weight"] = weight.reshape(-1, 1, MNIST.patch, MNIST.patch)
    network.load_state_dict(state)
    return network


def rename(name: str) -> str:
    """Return what a published parameter is called here."""
    head, _, number = name.removeprefix("transformer.layers.").partition(".")
    if name.startswith("transformer.layers."):
        return f"blocks.{head}.{replaced(number)}"
    return replaced(name)


def replaced(name: str) -> str:
    """Return a name whose first part is what it is here."""
    for old, new in NAMES.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return name
