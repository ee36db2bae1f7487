"""Means weighted by softmax of any numbers, and softmax over all pixels, are the module's."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nupes.quantizer.frontend.inspection import inspect_module
from tests.quantizer.close import images
from tests.quantizer.frontend.test_liveness import taken
from tests.quantizer.frontend.test_windows import kinds

TOKENS = torch.from_numpy(images(2, 5, 6))
MAP = torch.from_numpy(images(2, 6, 2, 3))

Form = Callable[["Part", Tensor], Tensor]


class Part(nn.Module):
    """A function of tokens (b, 5, 8) or a map (b, 8, 2, 3), made by a layer."""

    def __init__(self, function: Form) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.function = nn.Linear(6, 8), function
        self.conv, self.score = nn.Conv2d(6, 8, 1), nn.Linear(8, 2)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, self.first(x) if x.ndim == 3 else self.conv(x))


def heads(x: Tensor) -> Tensor:
    """Return tokens as two heads (b, 2, t, 4)."""
    return x.unflatten(2, (2, 4)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """Return two heads as tokens."""
    return x.transpose(1, 2).flatten(2)


OF_TOKENS: dict[str, Form] = {
    "pooling": lambda s, x: s.last(s.score(x).transpose(1, 2).softmax(-1) @ x),
    "pooling, softmax first": lambda s, x: s.last(s.score(x).softmax(1).transpose(1, 2) @ x),
    "pooling, turned": lambda s, x: s.last((x.mT @ s.score(x).softmax(1)).mT),
    "pooling by a product": lambda s, x: s.last(
        torch.einsum("bth,btc->bhc", s.score(x).softmax(1), x)
    ),
    "efficient attention": lambda s, x: joined(
        heads(x).relu() @ (heads(x).softmax(2).transpose(-1, -2) @ heads(x).tanh())
    ),
    "of channels of each token": lambda s, x: joined(
        heads(x)[..., :4].softmax(-1) @ heads(x).tanh()[:, :, :4]
    ),
}  # fmt: skip

OF_MAPS: dict[str, Form] = {
    "softmax of pixels": lambda s, x: x.flatten(2).softmax(-1).view_as(x) * x,
    "softmax of some channels": lambda s, x: x[:, 2:6].flatten(2).softmax(2) * x[:, :4].flatten(2),
    "softmax of tokens": lambda s, x: x.flatten(2).mT.softmax(1) * x.flatten(2).mT,
    "a product with them": lambda s, x: (
        (x.flatten(2) @ (x[:, :3].flatten(2).softmax(-1) * x[:, 3:6].flatten(2)).mT)
        @ x[:, 5:].flatten(2)
    ).view_as(x),
}


@pytest.mark.parametrize("name", OF_TOKENS)
def test_weighted_rows(name: str) -> None:
    graph = taken(Part(OF_TOKENS[name]), TOKENS)
    assert any("distances" in kind for kind in kinds(graph))


@pytest.mark.parametrize("name", OF_MAPS)
def test_softmax_of_pixels(name: str) -> None:
    taken(Part(OF_MAPS[name]), MAP)


def test_softmax_of_other_numbers_is_refused() -> None:
    (problem, *_) = inspect_module(Part(lambda s, x: x.softmax(2) * x), (6, 2, 3)).problems
    assert problem.reason.startswith("softmax must be of the scores of attention, of two values")
