"""Sweeps: equal to compiling each array, and a front that nothing beats."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nupes
from nupes.arch.config import ArrayConfig
from nupes.explore.sweeps import Point, grid, pareto, sweep
from nupes.model.errors import InputError
from tests.small import small_network

BASE = ArrayConfig()


def test_points_are_those_of_the_compiler() -> None:
    network, counts = small_network(), []
    arrays = grid([4, 8], [2, 4], [8, 16], BASE)
    points = sweep(network, arrays, 7, progress=lambda *count: counts.append(count))
    assert counts == [(done, 8) for done in range(1, 9)]
    assert [replace(point.array, act_depth=BASE.act_depth) for point in points] == arrays
    for point, array in zip(points, arrays, strict=True):
        program = nupes.compile(network, replace(array, act_depth=1 << 18), 7)
        assert (point.cycles, point.utilization) == (program.cycles, program.utilization)
        assert point.array.act_depth == program.schedule.act_words


def test_workers_change_nothing() -> None:
    arrays = grid([2, 4], [4], [8, 16], BASE)
    assert sweep(small_network(), arrays, workers=2) == sweep(small_network(), arrays)


def test_an_array_that_cannot_run_the_network() -> None:
    (point,) = sweep(small_network(), [replace(BASE, weight_level_bits=4)])
    assert "use weight_level_bits=8" in point.refusal
    assert point.as_dict().keys() == {"rows", "cols", "acc_depth", "act_depth", "refusal"}
    assert pareto([point]) == []


@given(st.lists(st.tuples(*[st.integers(1, 4)] * 3), max_size=12))
def test_the_front_is_what_nothing_beats(costs: list[tuple[int, int, int]]) -> None:
    points = [Point(replace(BASE, rows=4, cols=4 * c), n, 0.5, m) for n, c, m in costs]

    def beats(one: Point, other: Point) -> bool:
        pairs = list(zip(one.costs, other.costs, strict=True))
        return all(a <= b for a, b in pairs) and one.costs != other.costs

    best = {point.costs for point in points if not any(beats(rival, point) for rival in points)}
    assert [point.costs for point in pareto(points)] == sorted(best)


def test_measured_luts_are_the_cost_in_place_of_cells() -> None:
    point = Point(BASE, 7, 0.5, 9)
    assert point.costs == (7, 256, 9)
    assert replace(point, luts=8).costs == (7, 8, 9)


def test_grids() -> None:
    sizes = {(array.rows, array.cols) for array in grid([2, 4, 6, 64], [4, 6], [8], BASE)}
    assert sizes == {(2, 4), (2, 6), (4, 4), (6, 6), (64, 4)}
    with pytest.raises(InputError, match="sweep must hold at least one array"):
        grid([3], [2], [8], BASE)
    with pytest.raises(InputError, match=r"ArrayConfig\.rows must be 2 to 64, not 65"):
        grid([2, 65], [2], [8], BASE)
    with pytest.raises(InputError, match=r"ArrayConfig\.acc_depth must be 4 to 4096, not 3"):
        grid([2], [2], [3], BASE)
