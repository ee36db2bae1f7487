"""Functions of one tensor, from PyTorch to the RTL: each one is a layer's table."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from tests.whole import run_whole

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "square": torch.square,
    "power": lambda x: x**3,
    "root": lambda x: (torch.relu(x) + 0.1) ** 0.5,
    "exp": torch.exp,
    "log": lambda x: torch.log(torch.relu(x) + 0.1),
    "sqrt": lambda x: torch.sqrt(F.avg_pool2d(x * x, 3, 1, 1)),
    "rsqrt": lambda x: torch.rsqrt(x * x + 1),
    "reciprocal": lambda x: 1 / (1 + torch.exp(-x)),
    "elu": F.elu,
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.5),
    "mish": F.mish,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "log sigmoid": F.logsigmoid,
    "tanhshrink": F.tanhshrink,
    "hardshrink": lambda x: F.hardshrink(x, 0.2),
    "softshrink": lambda x: F.softshrink(x, 0.1),
    "threshold": lambda x: F.threshold(x, 0.1, -0.1),
    "hardtanh": lambda x: F.hardtanh(x, -0.4, 0.3),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hard swish by hand": lambda x: x * F.relu6(x + 3) / 6,
    "swish by hand": lambda x: x * torch.sigmoid(x),
    "mish by hand": lambda x: x * torch.tanh(F.softplus(x)),
    "sign": torch.sign,
    "floor": lambda x: torch.floor(4 * x) / 4,
    "round": lambda x: torch.round(4 * x) / 4,
    "clamp": lambda x: x.clamp(-0.3, 0.5),
    "erf": torch.erf,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "snake": lambda x: x + torch.sin(2 * x) ** 2 / 2,
    "sine": lambda x: torch.sin(x.clamp(-1.5, 1.5)),
}


class Bank(nn.Module):
    """Every function of two channels of its own; the results side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 2, 1) for _ in FUNCTIONS)
        self.head = nn.Conv2d(2 * len(FUNCTIONS), 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a sum of all functions."""
        pairs = zip(FUNCTIONS.values(), self.layers, strict=True)
        return self.head(torch.cat([function(layer(x)) for function, layer in pairs], 1))


def test_functions_are_exact_on_the_rtl(running: Callable[..., nupes.Simulator]) -> None:
    network = run_whole(running, Bank, (3, 5, 4))
    # A function costs no layer, and one that is written as a product no product.
    kinds = [layer.op.kind for layer in network.layers]
    assert kinds.count("conv") == len(FUNCTIONS) + 1
    assert len(kinds) == len(FUNCTIONS) + 3  # the pool and the concatenation
