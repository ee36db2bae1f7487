"""Residual streams behind norms: 16 bits for the sum, codes for the operators.

Where norms come last, as in BERT, what a norm gives is read by linear layers and is added to what
the next norm normalizes. One tensor of codes would serve both, and the stream would have the few
bits of the layers' inputs.
"""

from collections.abc import Iterator
from dataclasses import replace

from nupes.model.names import free_name
from nupes.quantizer.stages.stage import FusedNetwork, Stage
from nupes.quantizer.stages.wide import wide_roots

__all__ = ["split_streams"]


def split_streams(network: FusedNetwork) -> FusedNetwork:
    """Return the network in which norms that are added to wide tensors, and read by operators that
    need codes, are two stages: the second one, ``.stream``, for the sums alone.

    A norm has no weights, and reads its source once more.
    """
    wide, readers = wide_roots(network), network.readers()
    streams: dict[str, str] = {}

    def stages() -> Iterator[Stage]:
        for stage in network.stages:
            sums = [item for item in readers[stage.name] if item.residual == stage.name]
            added = [item for item in sums if item.name in wide and stage.name not in item.sources]
            if stage.op.any_gain and added and len(added) < len(readers[stage.name]):
                name = free_name(f"{stage.name}.stream", network.shapes)
                streams.update({item.name: name for item in added})
                yield stage
                yield replace(stage, name=name)
            else:
                yield replace(stage, residual=streams.get(stage.name, stage.residual))

    return replace(network, stages=tuple(stages()))
