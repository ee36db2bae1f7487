"""Delays and triangles."""

import pytest

from nupes.rtl.datapath.delays import Deskew, Skew
from tests.rtl.testbench import simulate


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("kind", [Skew, Deskew])
def test_every_entry_has_its_delay(kind: type, count: int) -> None:
    triangle = kind(6, count)
    vectors = [[(7 * n + 3 * i + 1) % 64 for i in range(count)] for n in range(20)]
    seen = simulate(triangle, [{"i": vector} for vector in vectors], ("o",))["o"]
    for i in range(count):
        values = [bits >> (6 * i) & 63 for bits in seen]
        cycles = i if kind is Skew else count - 1 - i
        assert values == ([0] * cycles + [vector[i] for vector in vectors])[:20]
