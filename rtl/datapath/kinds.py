"""Which cell an array has, by its ``mac``."""

from nupes.arch.config import ArrayConfig
from nupes.rtl.datapath.cell import Cell, PairCell, ProductCell, SquareCell, UniformCell

__all__ = ["KINDS", "cell_of"]

KINDS: dict[str, type[Cell]] = {
    "decode": Cell,
    "uniform": UniformCell,
    "square": SquareCell,
    "pair": PairCell,
    "product": ProductCell,
}
"""Every cell by the name that ``arch.cells`` gives it."""


def cell_of(config: ArrayConfig) -> type[Cell]:
    """Return the class of an array's cells."""
    return KINDS[config.mac]
