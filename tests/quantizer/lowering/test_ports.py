"""Ports instead of copies of channels."""

import torch
from torch import nn
from torch.nn import functional as F

import nupes
from nupes.model.tensor import Port
from tests.quantizer.close import images
from tests.quantizer.test_operators import Call, conv


def ports(module: nn.Module) -> dict[str, tuple[Port, ...]]:
    """Return what each layer of a module reads."""
    network = nupes.quantize(module, "W8A8", images(8, 3, 10, 9), method="rtn")
    return {layer.name: layer.inputs for layer in network.layers}


def test_slices_of_slices_are_ranges_of_one_tensor() -> None:
    module = Call(lambda s, x: s.b(s.a(x).relu()[:, 1:][:, 1:3]), a=conv(), b=conv(4, 2, 1))
    # The convolution gives no channels that nobody reads.
    assert ports(module) == {"a": (Port("input"),), "b": (Port("a"),)}
    module = Call(
        lambda s, x: (lambda y: s.b(y[:, 1:][:, 1:3]) + s.c(y[:, 3:]))(s.a(x).relu()),
        a=conv(), b=conv(4, 2, 1), c=conv(4, 3, 1),
    )  # fmt: skip
    found = ports(module)
    assert found["b"] == (Port("a", 2, 2),)
    assert found["c"] == (Port("a", 3, 3),)
    assert set(found) == {"a", "b", "c"}


def test_what_reads_whole_words_gets_a_tensor() -> None:
    def forward(s: Call, x: torch.Tensor) -> torch.Tensor:
        y = s.a(x).relu()
        return s.b(F.max_pool2d(y[:, 1:3], 2) + F.avg_pool2d(y[:, 1:3], 2))

    found = ports(Call(forward, a=conv(), b=conv(4, 2, 1)))
    copies = [name for name, read in found.items() if read == (Port("a", 0, None),)]
    assert copies  # for the max-pool; the average pool reads the range itself
    assert found["avg_pool2d"] == (Port("a", 1, 2),)
    assert found["max_pool2d"][0].tensor in copies


def test_rows_are_ranges_too() -> None:
    def forward(s: Call, x: torch.Tensor) -> torch.Tensor:
        y = s.a(x).relu()
        return s.b(y)[:, :, :1, :5] + s.c(y[:, 1:, 2:5])

    assert ports(Call(forward, a=conv(), b=conv(4, 6, 1), c=conv(4, 5)))["c"] == (
        Port("a", 1, 5, 2, 3),
    )
