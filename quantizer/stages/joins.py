"""Joins: tensors that must share one code, because codes are copied from one to another or products
of them added up."""

from collections.abc import Iterator
from dataclasses import dataclass

from nupes.quantizer.stages.stage import FusedNetwork, Stage

__all__ = ["Joins", "join_tensors"]


@dataclass(frozen=True)
class Joins:
    """``root`` names for each tensor the first one of those that share its code; ``origins`` for
    each root those of them, in order, that are no copies."""

    root: dict[str, str]
    origins: dict[str, list[str]]

    def members(self, name: str) -> list[str]:
        """Return the tensors that share the code of one."""
        return [other for other, root in self.root.items() if root == self.root[name]]

    def others(self, name: str) -> list[str]:
        """Return the other origins of a tensor's code."""
        return [other for other in self.origins[self.root[name]] if other != name]


def sharing(stage: Stage) -> Iterator[tuple[str, ...]]:
    """Yield tensors that share a code because of a stage."""
    if stage.copies_codes:
        yield stage.name, *stage.sources
    for group in range(stage.op.code_groups):
        yield stage.sources[group :: stage.op.code_groups]


def join_tensors(network: FusedNetwork) -> Joins:
    """Return which tensors of a network share a code, its result included."""
    root = {name: name for name in network.shapes}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    order = list(root)
    for stage in network.stages:
        for names in sharing(stage):
            roots = sorted(set(map(find, names)), key=order.index)
            for other in roots[1:]:
                root[other] = roots[0]
    root = {name: find(name) for name in root}
    copies = {stage.name for stage in network.stages if stage.copies_codes}
    origins: dict[str, list[str]] = {name: [] for name in root.values()}
    for name, first in root.items():
        if name not in copies:
            origins[first].append(name)
    return Joins(root, origins)
