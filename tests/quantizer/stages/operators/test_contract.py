"""What each operator says of itself holds for the maps that it gives."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.model.operators import Piece
from nupes.quantizer.stages.operators import (
    OPERATORS,
    AveragePool,
    Concat,
    Convolution,
    Matmul,
    MaxPool,
    Mosaic,
    Normalize,
    Product,
    Select,
    StageOperator,
    SubtractMax,
    SumOfProducts,
    WeightedMean,
)


@dataclass(frozen=True)
class Case:
    """An operator and the channels of the maps (6, 7) that it reads."""

    op: StageOperator
    channels: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...] = ((6, 7),)

    def maps(self, seed: int, low: float = -1.0) -> list[torch.Tensor]:
        """Return maps (2, c, h, w) float64."""
        generator = torch.Generator().manual_seed(seed)
        return [
            torch.rand(2, c, *size, generator=generator, dtype=torch.float64) * 2 + low
            for c, size in zip(self.channels, self.sizes, strict=True)
        ]


def pieces_of_two() -> tuple[Piece, ...]:
    """Return pieces of maps of 2 and 3 channels: columns 0 and 2 of both, column 1 of one."""
    return (
        Piece(0, (2, 2, 2), (0, 0, 1), (1, 2, 2), (5, 3, 0), (-2, 0, 1)),
        Piece(1, (2, 2, 2), (0, 0, 0), (1, 2, 2), (0, 1, 2), (3, 2, -2)),
        Piece(1, (2, 1, 1), (0, 1, 0), (1, 1, 1), (0, 0, 1), (1, 1, 1)),
        Piece(0, (2, 1, 2), (0, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
        Piece(1, (2, 1, 1), (0, 1, 3), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
    )


RNG = np.random.default_rng(0)

CASES = {
    "convolution": Case(Convolution(RNG.normal(size=(4, 3, 3, 2)), padding=(1, 0, 0, 1)), (3,)),
    "transposed": Case(
        Convolution(RNG.normal(size=(4, 3, 2, 3)), padding=(1, 0, -1, 2), stretch=(2, 3)), (3,)
    ),
    "groups": Case(Convolution(RNG.normal(size=(4, 3, 1, 1)), groups=2), (6,)),
    "average pool": Case(AveragePool((2, 3), (2, 1)), (3,)),
    "padded average pool": Case(AveragePool((2, 2), (2, 2), (1, 0, 0, 1)), (3,)),
    "max pool": Case(MaxPool((2, 3), (1, 2), (0, 1, 1, 0)), (3,)),
    "select": Case(Select((-1, 0, 1, 2, -1), (2, 1)), (3,)),
    "concat": Case(Concat(), (2, 3, 1), ((6, 7),) * 3),
    "mosaic": Case(Mosaic((2, 3, 4), pieces_of_two()), (2, 3), ((6, 7),) * 2),
    "product": Case(Product(), (3, 3), ((6, 7), (6, 7))),
    "gate": Case(Product(), (3, 3), ((1, 1), (6, 7))),
    "rotation": Case(SumOfProducts(((0, 1, 2), (1, 0, 2))), (3,) * 4, ((6, 7),) * 4),
    "gated sum": Case(SumOfProducts(((0, 0), (2, 1))), (1, 2, 3, 2), ((1, 7), (6, 7)) * 2),
    "scores": Case(Matmul(3, True), (3, 3), ((6, 7), (2, 4))),
    "matrix": Case(Matmul(8, False), (8, 3), ((6, 7), (2, 4))),
    "distances": Case(SubtractMax(), (3,)),
    "means": Case(WeightedMean(8), (8, 3), ((6, 7), (2, 4))),
    "layer norm": Case(Normalize(3, True, 1e-5), (3,)),
    "rms norm": Case(Normalize(3, False, 1e-5), (3,)),
    "mask": Case(Product(), (1, 3), ((6, 7), (6, 7))),
    "crop": Case(Select((2, 0, 2, 1), (1, 2), (-1, 0, 1, -2)), (3,)),
    "select fewer": Case(Select((1, 2)), (4,)),
}


def test_every_kind_is_a_case() -> None:
    assert {type(case.op) for case in CASES.values()} == set(OPERATORS.values())


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=20)
@given(seed=st.integers(0, 1000), low=st.sampled_from([-1.0, -0.2, 0.1]))
def test_no_result_is_below_the_bound(name: str, seed: int, low: float) -> None:
    case = CASES[name]
    result = case.op.apply(*case.maps(seed, low))
    assert float(result.min()) >= case.op.lower_bound(*(low for _ in case.channels))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_factors_that_respect_the_ties_leave_the_network_the_same(name: str, seed: int) -> None:
    case = CASES[name]
    maps = case.maps(seed)
    result = case.op.apply(*maps)
    numbers, total = [], 1
    for count in (result.shape[1], *case.channels):
        numbers.append(np.arange(total, total + count))
        total += count
    factors = np.exp(np.random.default_rng(seed).uniform(-1, 1, total))
    factors[0] = 1.0
    for _ in range(total):
        for some, others in case.op.ties(*numbers):
            for pair in zip(some, others, strict=True):
                factors[list(pair)] = 1.0 if 0 in pair else factors[list(pair)].min()
    for some, others in case.op.opposites(*numbers[1:]):
        factors[others] = 1 / factors[some]
    out, *sources = (factors[some] for some in numbers)
    op = case.op.rescale(out, *sources)
    scaled = [x / torch.tensor(f).reshape(1, -1, 1, 1) for x, f in zip(maps, sources, strict=True)]
    left_to_op = op.kept_factors(*sources) if op.gain_scales else out
    expected = result / torch.tensor(left_to_op * np.ones_like(out)).reshape(1, -1, 1, 1)
    torch.testing.assert_close(op.apply(*scaled), expected)


@pytest.mark.parametrize("name", CASES)
def test_copies_hold_values_of_the_sources_alone(name: str) -> None:
    case = CASES[name]
    maps = case.maps(0)
    result = set(case.op.apply(*maps).flatten().tolist())
    known = {0.0, *(value for x in maps for value in x.flatten().tolist())}
    assert (result <= known) == case.op.copies
