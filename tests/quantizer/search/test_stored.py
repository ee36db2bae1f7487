"""Codes of stored tensors that their readers bound."""

import numpy as np
import pytest
import torch
from torch import nn

import nupes


class Small(nn.Module):
    """A norm of values far below the root of its epsilon, computed or given."""

    def __init__(self, computed: bool) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4) if computed else nn.Identity()
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.first(x))


@pytest.mark.parametrize("method", ["rtn", "search"])
@pytest.mark.parametrize("computed", [True, False], ids=["wide", "coded"])
def test_an_epsilon_is_never_more_than_the_integers_hold(computed: bool, method: str) -> None:
    torch.manual_seed(0)
    module = Small(computed).eval()
    x = np.random.default_rng(0).normal(size=(64, 5, 4)).astype(np.float32)
    if computed:
        with torch.no_grad():
            module.first.weight *= 1e-6
            module.first.bias *= 1e-6
    else:
        x *= 1e-7
    network = nupes.quantize(module, "W8A8", x, method=method)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    assert np.abs(network(x) - expected).max() < 0.4 * np.abs(expected).max()


class Pairs(nn.Module):
    """Norms of two channels each, which may be nearly equal."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = self.conv(x).permute(0, 2, 3, 1).chunk(2, -1)

        normed = [nn.functional.layer_norm(pair, (2,)).permute(0, 3, 1, 2) for pair in pairs]
        return torch.cat(normed, 1)


@pytest.mark.parametrize("seed", range(6))
def test_an_epsilon_is_the_nearest_that_integers_say(seed: int) -> None:
    torch.manual_seed(seed)
    x = np.random.default_rng(seed).normal(size=(32, 3, 6, 6)).astype(np.float32)
    assert nupes.quantize(Pairs().eval(), "W8A8", x, method="rtn")
