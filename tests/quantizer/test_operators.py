"""Every supported operator at W8A8 against the float module."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nupes.model.network import IntegerNetwork
from nupes.model.operators import AveragePool, Conv, MaxPool, Select
from tests.quantizer.close import images, quantize_and_compare, randomize_norms


class Call(nn.Module):
    """A module from a function of its input and itself, with named parts."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: Tensor) -> Tensor:
        """Return the function of the input."""
        return self.function(self, x)


def conv(n: int = 6, c: int = 3, k: int = 3, **options: object) -> nn.Conv2d:
    """Return a convolution."""
    return nn.Conv2d(c, n, k, **options)  # type: ignore[arg-type]


def sequence(*parts: nn.Module) -> Callable[[], nn.Module]:
    """Return what makes a sequence; the parts are made once, from the test's seed."""
    return lambda: nn.Sequential(*parts)


def shortcut(self: Call, x: Tensor) -> Tensor:
    """The option-A shortcut of CIFAR ResNets."""
    x = torch.relu(self.first(x))
    return self.second(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 3, 3))


def inverted(self: Call, x: Tensor) -> Tensor:
    """An inverted residual whose skip tensor is signed."""
    x = self.first(x)
    return x + self.second(torch.relu(self.middle(x)))


def downsample(self: Call, x: Tensor) -> Tensor:
    """A residual block with a convolution in its skip path."""
    return torch.relu(self.first(x).add_(self.second(x)))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: conv(),
    "conv without bias": lambda: conv(bias=False),
    "conv 1x1": lambda: conv(k=1),
    "conv stride": lambda: conv(stride=2, padding=1),
    "conv uneven": lambda: conv(k=(3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1)),
    "conv same": lambda: conv(k=4, padding="same"),
    "conv valid": lambda: conv(padding="valid"),
    "conv groups": lambda: nn.Sequential(conv(8), nn.ReLU(), conv(12, 8, groups=4)),
    "conv depthwise": lambda: nn.Sequential(conv(4), conv(8, 4, groups=4, padding=1)),
    "pad": lambda: nn.Sequential(nn.ZeroPad2d((1, 2, 0, 3)), conv()),
    "pad twice": lambda: Call(
        lambda s, x: s.conv(F.pad(F.pad(x, (1, 0)), (0, 1, 2, 0))), conv=conv(padding=1)
    ),
    "pad average pool": lambda: nn.Sequential(conv(), nn.ZeroPad2d((0, 1, 0, 1)), nn.AvgPool2d(2)),
    "pad max pool": lambda: nn.Sequential(
        conv(), nn.ReLU(), nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2)
    ),
    "linear": lambda: nn.Sequential(conv(), nn.Flatten(), nn.Linear(6 * 8 * 7, 5)),
    "linear twice": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(270, 16), nn.ReLU(), nn.Linear(16, 4, bias=False)
    ),
    "view": lambda: Call(lambda s, x: s.linear(x.view(x.size(0), -1)), linear=nn.Linear(270, 5)),
    "reshape": lambda: Call(lambda s, x: s.linear(x.reshape(-1, 270)), linear=nn.Linear(270, 5)),
    "batch norm": lambda: nn.Sequential(conv(bias=False), nn.BatchNorm2d(6), nn.ReLU(), conv(4, 6)),
    "batch norm alone": lambda: nn.Sequential(conv(), nn.ReLU(), nn.BatchNorm2d(6), conv(4, 6)),
    "batch norm first": lambda: nn.Sequential(nn.BatchNorm2d(3), conv()),
    "batch norm after pool": lambda: nn.Sequential(conv(), nn.AvgPool2d(2), nn.BatchNorm2d(6)),
    "batch norm 1d": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(270, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)
    ),
    "relu": lambda: nn.Sequential(conv(), nn.ReLU(inplace=True), conv(4, 6)),
    "relu6": lambda: nn.Sequential(conv(), nn.ReLU6(), conv(4, 6)),
    "hardtanh": lambda: nn.Sequential(conv(), nn.Hardtanh(-0.4, 0.6), conv(4, 6)),
    "clamp": lambda: Call(
        lambda s, x: s.b(s.a(x).clamp(min=-0.1, max=0.5)), a=conv(), b=conv(4, 6)
    ),
    "gelu": lambda: nn.Sequential(conv(), nn.GELU(), conv(4, 6)),
    "gelu tanh": lambda: nn.Sequential(conv(), nn.GELU(approximate="tanh"), conv(4, 6)),
    "silu": lambda: nn.Sequential(conv(), nn.SiLU(), conv(4, 6)),
    "sigmoid": lambda: nn.Sequential(conv(), nn.Sigmoid(), conv(4, 6)),
    "tanh": lambda: nn.Sequential(conv(), nn.Tanh(), conv(4, 6)),
    "hardswish": lambda: nn.Sequential(conv(), nn.Hardswish(), conv(4, 6)),
    "hardsigmoid": lambda: nn.Sequential(conv(), nn.Hardsigmoid(), conv(4, 6)),
    "mish": lambda: nn.Sequential(conv(), nn.Mish(), conv(4, 6)),
    "elu": lambda: nn.Sequential(conv(), nn.ELU(0.7, inplace=True), conv(4, 6)),
    "softplus": lambda: nn.Sequential(conv(), nn.Softplus(), conv(4, 6)),
    "absolute value": lambda: Call(lambda s, x: s.b(s.a(x).abs()), a=conv(), b=conv(4, 6)),
    "square": lambda: Call(lambda s, x: s.b(s.a(x) ** 2), a=conv(), b=conv(4, 6)),
    "hand-written swish": lambda: Call(
        lambda s, x: s.b((lambda y: y * torch.sigmoid(y))(s.a(x))), a=conv(), b=conv(4, 6)
    ),
    "hand-written hard swish": lambda: Call(
        lambda s, x: s.b((lambda y: y * F.relu6(y + 3) / 6)(s.a(x))), a=conv(), b=conv(4, 6)
    ),
    "functions in two stages": lambda: nn.Sequential(
        conv(), nn.SiLU(), Call(lambda s, x: torch.abs(x)), conv(4, 6)
    ),
    "leaky relu": lambda: nn.Sequential(conv(), nn.LeakyReLU(0.2), conv(4, 6)),
    "relu last": lambda: nn.Sequential(conv(), nn.ReLU()),
    "function of a pool": lambda: nn.Sequential(conv(), nn.MaxPool2d(2), nn.Tanh(), conv(4, 6, 2)),
    "max pool": lambda: nn.Sequential(conv(), nn.MaxPool2d(3, 2, 1), conv(4, 6, 2)),
    "max pool dilated": lambda: nn.Sequential(
        conv(), nn.MaxPool2d(2, 1, dilation=2), conv(4, 6, 2)
    ),
    "max pool ceil": lambda: nn.Sequential(conv(), nn.MaxPool2d(2, ceil_mode=True), conv(4, 6)),
    "max pool global": lambda: Call(
        lambda s, x: s.b(s.a(x).amax((2, 3))), a=conv(), b=nn.Linear(6, 5)
    ),
    "max pool last": lambda: nn.Sequential(conv(), nn.MaxPool2d(2)),
    "max pool first": lambda: nn.Sequential(nn.MaxPool2d(2), conv()),
    "average pool": lambda: nn.Sequential(conv(), nn.AvgPool2d(2), conv(4, 6)),
    "average pool padded": lambda: nn.Sequential(conv(), nn.AvgPool2d(3, 2, 1), conv(4, 6)),
    "average pool divisor": lambda: nn.Sequential(conv(), nn.AvgPool2d(2, divisor_override=3)),
    "average pool uneven": lambda: nn.Sequential(
        nn.AvgPool2d(3, 2, 1, count_include_pad=True), conv(k=1)
    ),
    "adaptive pool": lambda: nn.Sequential(
        conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)
    ),
    "adaptive pool sizes": lambda: nn.Sequential(conv(), nn.AdaptiveAvgPool2d((4, 7)), conv(4, 6)),
    "mean": lambda: Call(lambda s, x: s.b(s.a(x).mean((2, 3))), a=conv(), b=nn.Linear(6, 5)),
    "mean kept": lambda: Call(
        lambda s, x: s.b(s.a(x).mean((-1, -2), keepdim=True)), a=conv(), b=conv(4, 6, 1)
    ),
    "add": lambda: Call(downsample, first=conv(padding=1), second=conv(k=1)),
    "add signed": lambda: Call(inverted, first=conv(), middle=conv(8, 6, 1), second=conv(6, 8, 1)),
    "add stored": lambda: Call(
        lambda s, x: s.c(torch.relu(s.a(x)) + torch.tanh(s.b(x))), a=conv(), b=conv(), c=conv(4, 6)
    ),
    "add last": lambda: Call(
        lambda s, x: torch.relu(s.a(x)) + torch.tanh(s.b(x)), a=conv(), b=conv()
    ),
    "add itself": lambda: Call(
        lambda s, x: s.b(torch.relu(s.a(x)) * 1.0 + torch.relu(s.a(x))), a=conv(), b=conv(4, 6)
    ),
    "difference": lambda: Call(
        lambda s, x: s.c(torch.relu(s.a(x)) - torch.tanh(s.b(x))), a=conv(), b=conv(), c=conv(4, 6)
    ),
    "add input": lambda: Call(lambda s, x: x + s.a(x), a=conv(3, 3, padding=1)),
    "add twice": lambda: Call(lambda s, x: s.a(x) + s.b(x) + s.c(x), a=conv(), b=conv(), c=conv()),
    "batch norm after add": lambda: Call(
        lambda s, x: s.n(s.a(x) + s.b(x)), a=conv(), b=conv(), n=nn.BatchNorm2d(6)
    ),
    "shortcut": lambda: Call(shortcut, first=conv(), second=conv(12, 6, stride=2, padding=1)),
    "shortcut last": lambda: Call(
        lambda s, x: F.pad(s.a(x)[:, :, ::2, ::2], (0, 0, 0, 0, 2, 1)), a=conv()
    ),
    "affine scalar": lambda: Call(lambda s, x: s.a((x - 0.2) / 0.5), a=conv()),
    "affine channel": lambda: Call(
        lambda s, x: s.a((x - s.mean) / s.std),
        a=conv(),
        mean=torch.tensor([0.1, -0.2, 0.3]).view(1, 3, 1, 1),
        std=torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1),
    ),
    "affine negative": lambda: Call(lambda s, x: s.a(0.3 - x), a=conv()),
    "affine inside": lambda: Call(
        lambda s, x: s.b(2 * torch.relu(s.a(x)) - 1), a=conv(), b=conv(4, 6)
    ),
    "affine last": lambda: Call(lambda s, x: (s.a(x) + 1) * 0.5, a=conv()),
    "dropout": lambda: nn.Sequential(conv(), nn.Dropout2d(), nn.ReLU(), nn.Dropout(), conv(4, 6)),
    "identity": lambda: nn.Sequential(nn.Identity(), conv(), nn.Identity()),
    "shared module": lambda: Call(lambda s, x: s.a(torch.relu(s.a(x))), a=conv(3, 3)),
    "flatten last": lambda: nn.Sequential(conv(), nn.Flatten()),
}
"""A module for each operator and way of use, for inputs (3, 10, 9)."""


def make(name: str) -> nn.Module:
    """Return a module with reproducible parameters."""
    torch.manual_seed(0)
    return randomize_norms(MODULES[name]())


@pytest.mark.parametrize("name", MODULES)
def test_close_at_eight_bits(name: str) -> None:
    _, ratio = quantize_and_compare(make(name), images(64, 3, 10, 9))
    assert ratio > 30


def layer(network: IntegerNetwork, kind: type) -> list[str]:
    """Return the names of the layers of one kind."""
    return [layer.name for layer in network.layers if isinstance(layer.op, kind)]


def test_layers_are_fused() -> None:
    network, _ = quantize_and_compare(make("add"), images(32, 3, 10, 9))
    # The larger convolution carries the sum; its function and the other convolution cost no layer.
    assert [item.name for item in network.layers] == ["second", "first", "output"]
    assert network.layers[1].residual is not None
    assert layer(network, Conv) == ["second", "first"]


def test_shortcut_copies_codes() -> None:
    network, _ = quantize_and_compare(make("shortcut"), images(32, 3, 10, 9), "W4A4")
    first, select, second = network.layers
    assert select.op == Select((-1,) * 3 + tuple(range(6)) + (-1,) * 3, (2, 2))
    assert first.output is not None
    assert select.output is not None
    assert select.output.codebook == first.output.codebook
    assert select.output.scale == first.output.scale
    codes = network.encode(images(4, 3, 10, 9, seed=1))
    stored = {item.name: value for item, value in network.trace(codes)}
    assert (stored[select.name][..., 3:9] == stored[first.name][:, ::2, ::2]).all()
    assert (first.output.codebook.levels[stored[select.name][..., :3]] == 0).all()
    assert second.residual is not None


def test_pools_are_operators() -> None:
    network, _ = quantize_and_compare(make("average pool"), images(32, 3, 10, 9))
    assert len(layer(network, AveragePool)) == 1
    network, _ = quantize_and_compare(make("max pool"), images(32, 3, 10, 9))
    assert len(layer(network, MaxPool)) == 1


def test_repeated_module_gets_unique_names() -> None:
    network, _ = quantize_and_compare(make("shared module"), images(32, 3, 10, 9))
    assert [item.name for item in network.layers] == ["a", "a_1"]
