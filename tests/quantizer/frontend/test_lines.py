"""Lines: they give back their numbers, and are few."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.quantizer.frontend.lines import lines_of


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_lines_are_the_numbers(numbers: list[int]) -> None:
    found: dict[int, int] = {}
    for count, to, to_step, at, at_step in lines_of(numbers):
        for index in range(count):
            assert to + index * to_step not in found
            found[to + index * to_step] = at + index * at_step
    assert [found[place] for place in range(len(numbers))] == numbers
    assert len(found) == len(numbers)


@pytest.mark.parametrize(
    ("numbers", "count"),
    [
        ([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], 3),
        ([2, 1, 0, 1, 2, 3, 4, 5, 4, 3], 3),
        ([0, 0, 0, 1, 2, 3, 3, 3], 3),
        ([3, 4, 5, 0, 1, 2], 2),
        ([5, 4, 3, 2], 1),
        ([7], 1),
    ],
)
def test_lines_are_few(numbers: list[int], count: int) -> None:
    assert len(lines_of(numbers)) == count
