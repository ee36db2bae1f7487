"""Ports: what a layer reads instead of a copy of some channels."""

from collections.abc import Mapping
from dataclasses import replace

from nupes.model.tensor import Port
from nupes.quantizer.stages.masks import masks_of
from nupes.quantizer.stages.operators import Select
from nupes.quantizer.stages.stage import FusedNetwork, Stage
from nupes.quantizer.stages.wide import wide_roots

__all__ = ["find_ranges", "ports_of", "residual_port", "stages_of_layers"]


def find_ranges(network: FusedNetwork) -> dict[str, Port]:
    """Return the stages that are nothing but rows and channels of a stored tensor, one after
    another: by name the port that reads the same of that tensor."""
    found: dict[str, Port] = {}
    for stage in network.stages:
        stored = stage.name not in network.emitted
        if isinstance(stage.op, Select) and stage.copies_codes and stored:
            op, (source,) = stage.op, stage.sources
            height, _, channels = stage.shape
            first = replace(op, padding=(0, 0, *op.padding[2:])).lower(None).first
            if first is None or max(op.padding) > 0:
                continue
            whole = found.get(source, Port(source))
            port = Port(whole.tensor, whole.first + first, channels)
            if any(op.padding) or whole.rows is not None:
                port = replace(port, first_row=whole.first_row - op.padding[0], rows=height)
            found[stage.name] = port
    return found


def ports_of(stage: Stage, ranges: Mapping[str, Port]) -> tuple[Port, ...]:
    """Return the ports of a stage's sources: ranges where its operator takes them."""
    return tuple(
        ranges[name] if name in ranges and takes(stage, index, ranges[name]) else Port(name)
        for index, name in enumerate(stage.sources[: stage.op.most_read])
    )


def takes(stage: Stage, index: int, port: Port) -> bool:
    """Whether the operator of a stage may read a range as its source of some number."""
    return port.first == 0 or stage.op.takes_part(index)


def residual_port(name: str, ranges: Mapping[str, Port]) -> Port:
    """Return the port of what is added: a range only if it has the first channels, since others may
    begin within a word."""
    port = ranges.get(name)
    return Port(name) if port is None or port.first else port


def stages_of_layers(network: FusedNetwork) -> tuple[Stage, ...]:
    """Return the stages that become layers: those that only name what a wide tensor is, and copies
    of ranges that nobody reads as a tensor, do not."""
    ranges, wide, masks = find_ranges(network), wide_roots(network), masks_of(network)
    stages = [item for item in network.stages if not (item.name in wide and item.copies_codes)]
    read = {port.tensor for stage in stages for port in ports_of(stage, ranges)}
    added = (masks.get(stage.name, stage.residual) for stage in stages)
    read |= {residual_port(name, ranges).tensor for name in added if name is not None}
    return tuple(item for item in stages if item.name not in ranges or item.name in read)
