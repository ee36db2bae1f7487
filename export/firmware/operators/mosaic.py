"""A mosaic in the firmware."""

from nupes.export.firmware.operators.operator import Described
from nupes.export.firmware.text import initializer, numbers
from nupes.model.operators import Mosaic

__all__ = ["describe_mosaic"]


def describe_mosaic(op: Mosaic) -> Described:
    """Return the pieces."""
    pieces = ", ".join(
        initializer(
            {
                "source": piece.source,
                "count": numbers(*piece.count),
                "to": numbers(*piece.to),
                "to_step": numbers(*piece.to_step),
                "at": numbers(*piece.at),
                "at_step": numbers(*piece.at_step),
            }
        )
        for piece in op.pieces
    )
    return Described("NUPES_MOSAIC", {"pieces": f"(const nupes_piece[]){{{pieces}}}"})
