"""What no array can do yet, whatever the operators are."""

from nupes.model.errors import UnsupportedError
from nupes.model.network import IntegerNetwork

__all__ = ["check_network"]


def check_network(network: IntegerNetwork) -> None:
    """Refuse networks with state, wide tensors that are stored, or negative multipliers."""
    for item in network.state:
        raise UnsupportedError(
            f"state {item.tensor.name!r} cannot run on the array yet: a run keeps no tensors"
        )
    for layer in network.layers:
        if layer.post is not None and layer.post.requantize.mult.min() < 0:
            raise UnsupportedError(
                f"layer {layer.name!r}: mult must not be negative on the array yet"
            )
        if layer.wide and layer.output.name not in network.emitted:
            raise UnsupportedError(
                f"layer {layer.name!r} must store codes or be an output: the array stores no wide "
                "tensors yet"
            )
        for port in layer.reads:
            if port.tensor in network.emitted:
                raise UnsupportedError(
                    f"layer {layer.name!r} must read stored codes, but {port.tensor!r} goes to the "
                    "host"
                )
