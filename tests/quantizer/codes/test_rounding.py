"""Rounding by cells: the nearest level, the upper one in the middle, for every kind of levels."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from nupes.quantizer.codes.rounding import cell_levels, find_cells, look_up


@given(
    st.lists(st.integers(-256, 255), min_size=1, max_size=40).map(sorted),
    st.lists(st.integers(-2100, 2100), min_size=1, max_size=50),
    st.sampled_from([0.25, 1.0, 2.0]),
    st.integers(0, 5),
)
def test_values_get_their_nearest_level(
    levels: list[int], eighths: list[int], step: float, slack: int
) -> None:
    # Eighths of a level and powers of two for a step: every threshold is met exactly.
    units = np.array(eighths) / 8
    table = np.array(levels, np.float64)
    values = torch.tensor(units * step, dtype=torch.float32)
    bounds = levels[0] - slack, levels[-1] + slack
    cells = find_cells(values, step, *bounds)
    real = torch.tensor(levels, dtype=torch.float32)
    found = look_up(real[cell_levels(real, *bounds)], cells).numpy()
    distance = np.abs(units[:, None] - table)
    expected = table[len(levels) - 1 - distance[:, ::-1].argmin(1)]
    np.testing.assert_array_equal(found, expected)


def test_what_is_no_number_has_a_cell() -> None:
    values = torch.tensor([float("nan"), float("inf"), -float("inf")])
    assert find_cells(values, 1.0, -3, 4).tolist() == [0, 14, 0]


def test_maps_keep_their_shape() -> None:
    cells = find_cells(torch.zeros(2, 3, 4, 5).transpose(1, 2), 1.0, 0, 1)
    assert look_up(torch.arange(3.0), cells).shape == (2, 4, 3, 5)
