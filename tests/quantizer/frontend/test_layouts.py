"""Where channels are: what an input of three dimensions is, and what is refused by name."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nupes.model.errors import UnsupportedError
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from tests.quantizer.close import images, quantize_and_compare
from tests.quantizer.test_operators import Call, conv


def swap(x: Tensor) -> Tensor:
    """Return a sequence with its last two dimensions exchanged."""
    return x.transpose(1, 2)


INPUTS: dict[str, tuple[nn.Module, tuple[int, int, int]]] = {
    "linear": (nn.Linear(4, 3), (7, 1, 4)),
    "root-mean-square norm": (nn.RMSNorm(4), (7, 1, 4)),
    "linear behind a function": (nn.Sequential(nn.Tanh(), nn.Linear(4, 3)), (7, 1, 4)),
    "convolution": (nn.Conv1d(7, 3, 2), (1, 4, 7)),
    "convolution of tokens": (Call(lambda s, x: s.a(swap(x)), a=nn.Conv1d(4, 3, 2)), (7, 1, 4)),
    "linear of a sequence": (Call(lambda s, x: s.a(swap(x)), a=nn.Linear(7, 3)), (1, 4, 7)),
    "functions alone": (nn.Tanh(), (1, 4, 7)),
}


@pytest.mark.parametrize("name", INPUTS)
def test_readers_tell_what_an_input_is(name: str) -> None:
    module, shape = INPUTS[name]
    assert capture(export_module(module.eval(), (2, 7, 4))).inputs[0].shape == shape
    _, ratio = quantize_and_compare(module, images(64, 7, 4), method="rtn")
    assert ratio > 30


def alone(x: Tensor) -> Tensor:
    """Return an input with a dimension for its only channel."""
    return x[:, None]


LONE: dict[str, tuple[Call, tuple[int, ...], tuple[int, int, int]]] = {
    "wave": (Call(lambda s, x: s.a(alone(x)), a=nn.Conv1d(1, 3, 4, 2)), (20,), (1, 20, 1)),
    "scaled wave": (
        Call(lambda s, x: s.a((2 * x - 0.5).view(-1, 1, 20)), a=nn.Conv1d(1, 3, 4, 2)),
        (20,),
        (1, 20, 1),
    ),
    "spectrum": (Call(lambda s, x: s.a(alone(x)), a=nn.Conv2d(1, 3, 2)), (6, 5), (6, 5, 1)),
    "turned spectrum": (
        Call(lambda s, x: s.a(alone(swap(x))), a=nn.Conv2d(1, 3, 2)), (6, 5), (6, 5, 1),
    ),
    "norm of frames": (
        Call(
            lambda s, x: s.b(swap(s.a(alone(x)))), a=nn.Conv1d(1, 3, 5, 5), b=nn.LayerNorm(3)
        ),
        (20,),
        (1, 20, 1),
    ),
    "vector": (Call(lambda s, x: s.a(alone(x)), a=nn.Linear(20, 3)), (20,), (1, 1, 20)),
    "wave and vector": (
        Call(
            lambda s, x: s.a(alone(x))[..., 0] + s.b(x), a=nn.Conv1d(1, 3, 4), b=nn.Linear(20, 3)
        ),
        (20,),
        (1, 1, 20),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LONE)
def test_an_input_of_one_channel_may_have_no_dimension_for_it(name: str) -> None:
    module, size, shape = LONE[name]
    for layer in module.children():
        layer.reset_parameters()  # the same weights, whichever modules were imported before
    assert capture(export_module(module.eval(), (2, *size))).inputs[0].shape == shape
    network, ratio = quantize_and_compare(module, images(64, *size), method="rtn")
    assert ratio > 25
    x = images(2, *size)
    maps = x.reshape(2, shape[2], *shape[:2])
    np.testing.assert_array_equal(network(x), network(maps))


def test_one_token_and_one_pixel_are_vectors() -> None:
    for shape in ((1, 6), (6,)):
        module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)).eval()
        network, ratio = quantize_and_compare(module, images(64, *shape), method="rtn")
        assert ratio > 30
        assert network.the_input.tensor.shape == (1, 1, 6)
        x = images(2, 6)
        np.testing.assert_array_equal(network.encode(x), network.encode(x.reshape(2, 6, 1, 1)))


REFUSED: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "convolution of last channels": (
        Call(lambda s, x: s.b(s.a(x).permute(0, 2, 3, 1)), a=conv(), b=nn.Conv2d(8, 2, 1)),
        (2, 3, 10, 9),
        "its operand must have its channels in dimension 1, not in the last one",
    ),
    "sum of both": (
        Call(lambda s, x: s.a(x) + swap(s.a(x)), a=nn.Linear(6, 6)),
        (2, 6, 6),
        "its operands must all have their channels in dimension 1, or in the last one",
    ),
    "rows and columns": (
        Call(lambda s, x: s.a(x).transpose(2, 3), a=conv()),
        (2, 3, 13, 12),
        "it must select whole channels, rows and columns, or flatten the whole map",
    ),
    "square output": (
        Call(lambda s, x: swap(s.a(x)), a=nn.Conv1d(3, 6, 3)),
        (2, 3, 8),
        r"module output must have its channels in dimension 1 .*, not be \(2, 6, 6\) with channels",
    ),
    "flat output": (
        Call(lambda s, x: s.a(x).flatten(1), a=nn.Linear(3, 6)),
        (2, 70, 3),
        "it must select whole channels, rows and columns, or flatten the whole map",
    ),
    "window on pixels": (
        Call(lambda s, x: F.max_pool1d(s.a(x).flatten(2), 2), a=conv()),
        (2, 3, 4, 72),
        "it must read a sequence, not the pixels of a map 2 x 70",
    ),
    "linear over columns": (
        Call(lambda s, x: s.b(s.a(x)), a=conv(), b=nn.Linear(7, 2)),
        (2, 3, 10, 9),
        r"linear must read \(batch, features\) or channels in the last dimension, as behind perm",
    ),
    "largest image": (
        Call(lambda s, x: s.a(x).amax(0, keepdim=True), a=nn.Linear(3, 6)),
        (2, 8, 3),
        r"amax must be over dimensions of a map among \(1, 2\), not \[0\]",
    ),
    "concatenation of images": (
        Call(lambda s, x: torch.cat([s.a(x), s.a(x)], 0), a=nn.Linear(3, 6)),
        (2, 8, 3),
        "a concatenation must be along channels, rows, columns or tokens, not 0 of 3 dimensions",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    module, shape, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message):
        capture(export_module(module, shape))
