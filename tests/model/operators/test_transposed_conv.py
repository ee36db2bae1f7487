"""Transposed convolutions: the sums, and PyTorch's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from nupes.model.codebook import make_codebook
from nupes.model.errors import InputError
from nupes.model.operators import TransposedConv
from tests.model.reference import result_of

WEIGHTS = make_codebook("uniform", 4, True)
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(PAIRS, PAIRS, PAIRS, PAIRS, st.integers(1, 2), st.integers(0, 1000))
def test_sums(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stretch: tuple[int, int],
    stride: tuple[int, int],
    groups: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, len(WEIGHTS), (2 * groups, 2, *kernel)).astype(np.uint8)
    sides = (kernel[0], kernel[0] - 1, kernel[1], kernel[1] - 1)
    op = TransposedConv(codes, WEIGHTS, np.ones(2 * groups), stride, sides, (1, 1), groups, stretch)
    op.check()
    levels = rng.integers(-9, 10, (2, *size, 2 * groups))
    found = op.accumulate(levels)
    assert found.shape[1:] == op.shape(levels.shape[1:])
    for image in range(2):
        assert found[image].tolist() == result_of(op, levels[image].tolist())


def test_multiplications_are_those_of_pixels() -> None:
    one = int(np.flatnonzero(WEIGHTS.levels == 1)[0])
    codes = np.full((4, 3, 3, 2), one, np.uint8)
    op = TransposedConv(codes, WEIGHTS, np.ones(4), stretch=(2, 3))
    assert op.accumulate(np.ones((1, 4, 5, 3))).sum() == op.macs((4, 5, 3))


def test_it_is_that_of_pytorch() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-7, 8, (3, 2, 4, 3))
    codes = (weight[:, :, ::-1, ::-1].swapaxes(0, 1) + 7).astype(np.uint8)
    padding = (3 - 1, 3 - 1 + 1, 2, 2)
    op = TransposedConv(codes, WEIGHTS, np.ones(2), padding=padding, stretch=(2, 3))
    levels = rng.integers(-9, 10, (2, 4, 5, 3))
    expected = F.conv_transpose2d(
        torch.tensor(levels.transpose(0, 3, 1, 2)),
        torch.tensor(weight),
        None,
        (2, 3),
        (1, 0),
        (1, 0),
    )
    assert (op.accumulate(levels).transpose(0, 3, 1, 2) == expected.numpy()).all()


def test_words_and_a_stretch_that_is_none() -> None:
    codes = np.zeros((2, 3, 4, 4), np.uint8)
    op = TransposedConv(codes, WEIGHTS, np.ones(2), stretch=(2, 1))
    assert op.words((4, 6, 3)) == "transposed conv 4x4, stretch 2x1"
    with pytest.raises(InputError, match=r"stretch must be 2 integers in 1..1048576, not"):
        TransposedConv(codes, WEIGHTS, np.ones(2), stretch=(0, 1)).check()
