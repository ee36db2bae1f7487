"""A concatenation: Concat of codes, which have one codebook."""

from nupes.export.graph import Graph, Operand
from nupes.model.operators import Concat

__all__ = ["add_concat"]


def add_concat(graph: Graph, op: Concat, sources: list[Operand], name: str) -> str:
    """Append the codes of all inputs side by side."""
    return graph.add("Concat", [source.value for source in sources], f"{name}/codes", axis=1)
