"""The integer network that a fused one becomes, without its values: what the compiler needs to say
whether it fits an array and about how many cycles it takes."""

from collections.abc import Mapping

import numpy as np

from nupes.arch.cells import codebook_rule
from nupes.model.arithmetic import Y_RANGE
from nupes.model.codebook import Codebook, make_codebook
from nupes.model.network import (
    Encoder,
    InputEncoder,
    IntegerNetwork,
    Layer,
    Requantize,
    Residual,
    Tensor,
)
from nupes.model.operators import AveragePool, Conv, MaxPool, Select
from nupes.quantizer.frontend.functions import build_encoder
from nupes.quantizer.frontend.graph import Convolution, Pool
from nupes.quantizer.options.bits import plan_bits
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.stages.fuser import FusedNetwork, Stage

__all__ = ["bare_operator", "skeleton"]

REACH = 8.0
"""Magnitude up to which a skeleton's pre-activations reach: beyond it every function is flat or
straight."""


def skeleton(
    network: FusedNetwork, scheme: str, overrides: Mapping[str, str], cell: str = "decode"
) -> IntegerNetwork:
    """Return an integer network with a fused network's shapes and bits, codebooks that a kind of
    cells holds, and no values.

    It stands for the quantized one in front of the compiler: layers, bits and memories are the
    same; how many tables coincide is not known yet, so its cycles are an estimate. Raises
    ``UnsupportedError`` for a function that no encoder can hold.
    """
    plan = plan_bits(network, parse_scheme(scheme), 8, None, 8, overrides)
    source = Tensor(
        "input", network.input.shape, stand_in(plan.tensors["input"], False, 0, cell), 1.0
    )
    tensors = {source.name: source}
    channels = network.input.shape[2]
    thresholds = np.tile(np.arange(1.0, len(source.codebook)), (channels, 1))
    layers = []
    for index, stage in enumerate(network.stages, start=1):
        last = index == len(network.stages)
        read = tensors[stage.source]
        codebook = (
            read.codebook
            if stage.copies_codes
            else stand_in(plan.tensors[stage.name], stage.low < 0, index, cell)
        )
        if not last:
            tensors[stage.name] = Tensor(stage.name, stage.shape, codebook, 1.0)
        output = tensors.get(stage.name)
        pooled = isinstance(stage.op, MaxPool)
        n = stage.shape[2]
        bits = plan.weights.get(stage.name, 8)
        residual = None if stage.residual is None else Residual(stage.residual, 1, 1)
        layers.append(
            Layer(
                stage.name,
                bare_operator(stage, bits, index, cell),
                stage.source,
                output,
                None
                if pooled
                else Requantize(np.ones(n, np.int32), np.zeros(n, np.int64), np.ones(n, np.int32)),
                residual,
                None if pooled or last else plausible_encoder(stage, codebook),
            )
        )
    return IntegerNetwork(
        source, InputEncoder(thresholds), tuple(layers), 1.0, network.output_shape
    )


def stand_in(bits: int, signed: bool, index: int, cell: str, weight: bool = False) -> Codebook:
    """Return a codebook of some bits that a cell holds, another one for each index if it may."""
    rule = codebook_rule(cell, bits, signed, weight)
    if bits == 8 or rule.family == "uniform":
        return make_codebook("uniform", bits, signed)
    lmax = rule.lmax_of((1 << (bits - signed)) - 1) or (127 if signed else 255)
    exponent = rule.exponents[0] if rule.exponents else 0.5 + index % 64 / 128
    return make_codebook("power", bits, signed, lmax, exponent)


def plausible_encoder(stage: Stage, codebook: Codebook) -> Encoder:
    """Return a stage's encoder for values up to ``REACH``; a function that has none is refused."""
    largest = float(np.abs(codebook.levels).max())
    scale = min(REACH, max(abs(stage.function.low), stage.function.high)) / largest
    where = f"layer {stage.name!r}"
    return build_encoder(stage.function, REACH / Y_RANGE[1], codebook, scale, where)


def bare_operator(
    stage: Stage, bits: int, index: int, cell: str = "decode"
) -> Conv | AveragePool | Select | MaxPool:
    """Return a stage's operator; the weights of a convolution are all the level nearest zero."""
    op = stage.op
    if isinstance(op, Pool):
        return op.op
    if not isinstance(op, Convolution):
        return op
    codebook = stand_in(bits, True, index, cell, weight=True)
    code = int(np.abs(codebook.levels).argmin())
    codes = np.full(op.weight.shape, code, np.uint8)
    return Conv(codes, codebook, np.ones(len(codes)), op.stride, op.padding, op.dilation, op.groups)
