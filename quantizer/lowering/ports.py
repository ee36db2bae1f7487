"""Ports: what a layer reads instead of a copy of some channels."""

from collections.abc import Iterable, Mapping

from nupes.model.layer import Layer
from nupes.model.tensor import Port
from nupes.quantizer.stages.operators import Select
from nupes.quantizer.stages.stage import FusedNetwork, Stage

__all__ = ["find_ranges", "ports_of", "without_copies"]


def find_ranges(network: FusedNetwork) -> dict[str, Port]:
    """Return the stages that are nothing but channels of a stored tensor, one after another: by
    name the port that reads the same of that tensor."""
    found: dict[str, Port] = {}
    for stage in network.stages:
        stored = stage.name not in network.emitted
        if isinstance(stage.op, Select) and stage.copies_codes and stored:
            first, (source,) = stage.op.lower(None).first, stage.sources
            if first is not None:
                whole = found.get(source, Port(source))
                found[stage.name] = Port(whole.tensor, whole.first + first, stage.shape[2])
    return found


def ports_of(stage: Stage, ranges: Mapping[str, Port]) -> tuple[Port, ...]:
    """Return the ports of a stage's sources: ranges where its operator takes them."""
    return tuple(
        ranges[name] if name in ranges and stage.op.takes_part(index) else Port(name)
        for index, name in enumerate(stage.sources)
    )


def without_copies(layers: Iterable[Layer], ranges: Mapping[str, Port]) -> tuple[Layer, ...]:
    """Return layers without those that copy a range which nobody reads as a tensor."""
    layers = tuple(layers)
    read = {port.tensor for layer in layers for port in layer.reads}
    return tuple(layer for layer in layers if layer.name not in ranges or layer.name in read)
