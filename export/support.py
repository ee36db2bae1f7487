"""What every format refuses by name."""

from collections.abc import Mapping
from typing import TypeVar

from nupes.model.errors import UnsupportedError
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork

__all__ = ["exporter", "refuse_state"]

Exporter = TypeVar("Exporter")


def exporter(registry: Mapping[str, Exporter], layer: Layer, format: str) -> Exporter:
    """Return what a format does for a layer's operator, or refuse the layer."""
    found = registry.get(layer.op.kind)
    if found is None:
        raise UnsupportedError(
            f"layer {layer.name!r}: {layer.op.kind} cannot be exported to {format}, which has "
            f"{', '.join(registry)}"
        )
    return found


def refuse_state(network: IntegerNetwork, format: str) -> None:
    """Refuse a network that hands tensors from one run to the next."""
    if network.state:
        raise UnsupportedError(
            f"state {network.state[0].tensor.name!r} cannot be exported to {format}, whose runs "
            "have no memory"
        )
