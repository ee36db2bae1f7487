"""Chains of taps: three rows of a column multiply three steps that follow one another in the
stream of one lane.

No Amaranth here: the compiler shares this file with the hardware.
"""

from nupes.arch.config import ArrayConfig

__all__ = ["CHAIN", "band", "direct"]

CHAIN = 3
"""Steps of a chain, and rows of a column that multiply them."""


def direct(lane: int, config: ArrayConfig) -> tuple[int, int]:
    """Return the row that a lane of a word enters, and the column that is its output channel's."""
    return lane % config.rows, lane % config.cols


def band(lane: int, config: ArrayConfig) -> tuple[int, int, int]:
    """Return the rows of a lane's column that multiply the present step of a chain, the one before,
    and the one before that.

    The present step is multiplied where it comes in; the others by the rows below, as far as there
    are some.
    """
    row, _ = direct(lane, config)
    match max(row - (config.rows - CHAIN), 0):
        case 0:
            return row, row + 2, row + 1
        case 1:
            return row, row + 1, row - 1
        case _:
            return row, row - 1, row - 2
