"""First tries: calibration images that do not vary give a network, and never a raw error."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from nupes.quantizer import quantize
from tests.networks import many
from tests.quantizer.close import images, module_output, randomize_norms, signal_to_noise

SHAPE = (3, 4, 4)


def network() -> nn.Module:
    """Return convolutions of all kinds, with norms and a head."""
    torch.manual_seed(0)
    return randomize_norms(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 1, groups=2),
            nn.Flatten(),
            nn.Linear(128, 4),
        )
    )


def dead_channel(count: int) -> np.ndarray:
    """Return images of which one channel is always 0."""
    x = images(count, *SHAPE)
    x[:, 1] = 0
    return x


def rank_one(count: int) -> np.ndarray:
    """Return images that are multiples of one."""
    return images(1, *SHAPE) * np.linspace(-1, 1, count, dtype=np.float32).reshape(-1, 1, 1, 1)


CASES = {
    "one image": images(1, *SHAPE),
    "one of one value": np.full((1, *SHAPE), 0.7, np.float32),
    "equal images": images(1, *SHAPE).repeat(7, 0),
    "equal values": np.full((5, *SHAPE), -0.3, np.float32),
    "zeros": np.zeros((5, *SHAPE), np.float32),
    "one channel dead": dead_channel(6),
    "multiples of one image": rank_one(9),
    "tiny": images(4, *SHAPE) * np.float32(1e-20),
    "large": images(4, *SHAPE) * np.float32(1e12),
    "around a large mean": 1e4 + images(4, *SHAPE),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("method", "scheme"),
    [("rtn", "W4A4"), ("powerquant", "W2A2"), ("search", "W8A8"), ("search", "W3A3")],
)
def test_images_that_hardly_vary(case: str, method: str, scheme: str) -> None:
    x, module = CASES[case], network()
    found, expected = quantize(module, scheme, x, method=method)(x), module_output(module, x)
    assert np.isfinite(found).all()
    if scheme == "W8A8":
        plain = quantize(module, scheme, x, method="rtn")(x)
        # Large values saturate every ReLU6, and what is left of them are signs.
        enough = 20 if case != "large" else signal_to_noise(expected, plain) - 3
        assert signal_to_noise(expected, found) > enough


@many(8)
@example(count=2, sizes=(1, 1, 1), scheme="W8A8", method="search", rank=1, seed=0)
@given(
    count=st.integers(1, 4),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)),
    scheme=st.sampled_from(["W8A8", "W4A4", "W3A3", "W2A4"]),
    method=st.sampled_from(["rtn", "powerquant", "search"]),
    rank=st.integers(0, 2),
    seed=st.integers(0, 2**31),
)
def test_small_linear_layers_on_few_vectors(
    count: int, sizes: tuple[int, int, int], scheme: str, method: str, rank: int, seed: int
) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    module = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1])
    x = rng.normal(size=(count, rank)) @ rng.normal(size=(rank, sizes[0]))
    x = x.astype(np.float32).reshape(count, sizes[0], 1, 1)
    assert np.isfinite(quantize(module, scheme, x, method=method)(x)).all()
