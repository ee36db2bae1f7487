"""What no array can do yet, whatever the operators are."""

from nupes.arch.config import ArrayConfig
from nupes.model.errors import UnsupportedError
from nupes.model.network import IntegerNetwork

__all__ = ["check_network"]


def check_network(network: IntegerNetwork, config: ArrayConfig) -> None:
    """Refuse networks with state; without attention those with wide tensors that are stored, or
    with negative multipliers."""
    for item in network.state:
        raise UnsupportedError(
            f"state {item.tensor.name!r} cannot run on the array yet: a run keeps no tensors"
        )
    for layer in network.layers:
        negative = layer.post is not None and layer.post.requantize.mult.min() < 0
        if negative and not config.attention:
            raise UnsupportedError(
                f"layer {layer.name!r}: mult must not be negative without attention=True of "
                "the array"
            )
        stored = layer.output.name not in network.emitted
        if layer.wide and stored and not config.attention:
            raise UnsupportedError(
                f"layer {layer.name!r} must store codes or be an output: 16-bit tensors need an "
                "array with attention=True"
            )
        for port in layer.reads:
            if port.tensor in network.emitted:
                raise UnsupportedError(
                    f"layer {layer.name!r} must read stored codes, but {port.tensor!r} goes to the "
                    "host"
                )
