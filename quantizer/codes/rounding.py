"""Rounding real values to the levels of a codebook, without a search.

Levels are integers, so the thresholds between them are whole or half: inside a cell of half a level
unit every value has the same nearest level, and a table of cells finds it.
"""

import torch
from torch import Tensor

__all__ = ["cell_levels", "find_cells", "look_up"]


def find_cells(values: Tensor, step: Tensor | float, low: int, high: int) -> Tensor:
    """Return the cell (int32) of each value in units of ``step``: 0 at ``low`` and below, ``2 *
    (high - low)`` at ``high`` and above; no level lies beyond."""
    cells = torch.floor(values * (2 / step)).clamp_(2 * low, 2 * high)
    return cells.nan_to_num_(2 * low).sub_(2 * low).to(torch.int32)


def cell_levels(levels: Tensor, low: int, high: int) -> Tensor:
    """Return for each cell the position of its nearest level among sorted integer levels, which may
    repeat; a threshold belongs to the upper one."""
    centres = torch.arange(2 * low, 2 * high + 1, device=levels.device)
    middle = (levels[1:] + levels[:-1]) / 2
    return torch.bucketize((centres.to(levels.dtype) + 0.5) / 2, middle, right=True)


def look_up(table: Tensor, cells: Tensor) -> Tensor:
    """Return the entries of a table for cells of any shape."""
    return table.index_select(0, cells.flatten()).reshape(cells.shape)
