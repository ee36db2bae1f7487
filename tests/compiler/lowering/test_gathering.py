"""Which statistics cost no pass: gathered by the writer of a tensor, or still there."""

import numpy as np
import pytest

from nupes.arch.config import ArrayConfig
from nupes.compiler.emit.instructions import Measure, Tile
from nupes.compiler.program import compile
from nupes.model.network import IntegerNetwork, Output
from nupes.model.operators import Normalize
from nupes.model.tensor import Port
from tests.transformers import Books, Sizes, Transformer

ARRAY = ArrayConfig(4, 4, acc_depth=16, attention=True)


def counts(network: IntegerNetwork) -> tuple[int, int]:
    """Return how many MEASUREs a program has, and how many tensors are gathered."""
    instructions = compile(network, ARRAY).schedule.instructions
    gathered = sum(isinstance(item, Tile) and item.gathers_last for item in instructions)
    return sum(isinstance(item, Measure) for item in instructions), gathered


@pytest.mark.parametrize(("tokens", "expected"), [(16, (0, 9)), (17, (10, 8))])
def test_encoders_measure_what_one_block_does_not_hold(
    tokens: int, expected: tuple[int, int]
) -> None:
    """Five norms and, for each of two heads, a largest score and a sum of weights; those of a head
    are gathered in any case, as its queries are split."""
    sizes = Sizes((tokens, 1), heads=1)
    network = Transformer(sizes, Books(), np.random.default_rng(0)).build()
    assert counts(network) == expected


class Norms(Transformer):
    """Normalizations of the input and of two streams, one after another."""

    def __init__(self) -> None:
        super().__init__(Sizes((5, 1), 6), Books(), np.random.default_rng(0))
        for name in "xy":
            self.linear(name, Port("input"), 6, None)

    def normalize(self, *sources: str, epsilon: int = 5) -> IntegerNetwork:
        """Return the network of a normalization of each source, the last one an output."""
        for index, source in enumerate(sources):
            last = index == len(sources) - 1
            book = None if last else self.books.activation
            op = Normalize(6, True, epsilon)
            self.add(f"norm {index}", op, [Port(source)], book)
        return self.network(Output(f"norm {len(sources) - 1}", (6, 5, 1)))


@pytest.mark.parametrize(
    ("sources", "measured", "gathered"),
    [
        (("x",), 0, 1),
        (("x", "x"), 0, 1),
        (("x", "y"), 1, 1),
        (("y", "x", "y"), 2, 1),
        (("input",), 1, 0),
        (("input", "input", "x"), 2, 0),
        (("x", "norm 0", "norm 1"), 0, 3),
    ],
)
def test_factors_are_kept_until_others_replace_them(
    sources: tuple[str, ...], measured: int, gathered: int
) -> None:
    assert counts(Norms().normalize(*sources)) == (measured, gathered)


def test_other_constants_are_other_factors() -> None:
    made = Norms()
    made.add("first", Normalize(6, True, 5), [Port("x")], made.books.activation)
    made.add("second", Normalize(6, False, 5), [Port("x")], made.books.activation)
    assert counts(made.normalize("x", epsilon=6)) == (2, 1)
