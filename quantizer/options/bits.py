"""How many bits each layer's weights and each stored tensor get under a scheme."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nupes.model.errors import InputError
from nupes.quantizer.options.scheme import Scheme, match_overrides
from nupes.quantizer.stages.joins import join_tensors
from nupes.quantizer.stages.operators import Matmul, Select, WeightedMean
from nupes.quantizer.stages.stage import FusedNetwork, Stage, weighted
from nupes.quantizer.stages.wide import wide_roots

__all__ = ["KINDS", "WIDE_KINDS", "BitPlan", "plan_bits"]

KINDS = ("queries", "keys", "numerators", "values")
"""Kinds of tensors of attention whose bits can be asked for."""

WIDE_KINDS = ("scores", "stream")
"""Kinds of tensors that always have 16 bits."""


@dataclass(frozen=True)
class BitPlan:
    """Bits of the weights of each convolution and of each stored tensor, by name."""

    weights: dict[str, int]
    tensors: dict[str, int]


def plan_bits(
    network: FusedNetwork,
    scheme: Scheme,
    ends: int | None,
    input_bits: int | None,
    residual_bits: int | None,
    overrides: Mapping[str, str],
    kinds: Mapping[str, int] | None = None,
) -> BitPlan:
    """Return the bits of every weight and tensor.

    ``input_bits`` holds for the inputs (``None``: as the ends), ``ends`` for the weights of the
    first and last layer and what the last layer reads; ``residual_bits`` for tensors that are only
    added, to one another or to a wide tensor; an override for a layer's weights, or the tensor that
    stands in their place, and for what else it reads; ``kinds`` for tensors of attention by their
    kind, where no override does. Tensors that share a code share its bits, and of several wishes
    have the largest.
    """
    stages, kinds = network.stages, kinds or {}
    check_kinds(stages, kinds)
    named = match_overrides([stage.name for stage in stages], overrides)
    convolutions = list(weighted(stages))
    weights = {name: scheme.weights for name in convolutions}
    if ends is not None:
        weights.update(dict.fromkeys((*convolutions[:1], *convolutions[-1:]), ends))
    weights.update({name: named[name].weights for name in convolutions if name in named})
    last = {*network.emitted, *convolutions[-1:]} if ends is not None else set()

    extra = residual_bits if residual_bits is not None else scheme.activations
    root, wide = join_tensors(network).root, wide_roots(network)
    wishes: dict[str, list[int]] = {name: [] for name in root.values()}
    for stage in stages:
        if not stage.copies_codes or stage.name in network.emitted or stage.name in named:
            bits = operand_bits(stage, scheme, ends, last, named)
            if isinstance(stage.op, Select) and stage.name in wide and stage.name not in named:
                bits = extra
            for index, source in enumerate(stage.sources):
                override = named.get(stage.name) if index == stage.op.matrix else None
                asked = None if stage.name in named else kinds.get(kind_of(stage, index))
                wishes[root[source]].append(override.weights if override else asked or bits)
    tensors = {name: max(bits, default=extra) for name, bits in wishes.items()}
    at_host = ends if input_bits is None else input_bits
    given = {name for stage in stages if stage.name in named for name in stage.sources}
    if at_host is not None:
        held = {root[name] for name in network.entered if name in given}
        tensors.update(dict.fromkeys({root[name] for name in network.entered} - held, at_host))
    return BitPlan(weights, {name: tensors[root[name]] for name in root})


def kind_of(stage: Stage, index: int) -> str:
    """Return which kind of a tensor of attention a stage's operand is, empty if it is none."""
    if isinstance(stage.op, Matmul) and stage.op.transposed:
        return KINDS[index]
    return KINDS[2 + index] if isinstance(stage.op, WeightedMean) else ""


def check_kinds(stages: Iterable[Stage], kinds: Mapping[str, int]) -> None:
    """Refuse bits for tensors of a kind that a network has not."""
    found = {kind_of(stage, index) for stage in stages for index in range(len(stage.sources))}
    for kind in kinds:
        if kind not in found:
            raise InputError(
                f"bits must be of tensors that the network has, not of {kind}: it has no attention"
            )


def operand_bits(
    stage: Stage, scheme: Scheme, ends: int | None, last: set[str], named: Mapping[str, Scheme]
) -> int:
    """Return the bits that a stage wants of the tensor it reads."""
    if stage.name in named:
        return named[stage.name].activations
    bits = ends if ends is not None and stage.name in last else scheme.activations
    return max(bits, stage.op.least_bits)
