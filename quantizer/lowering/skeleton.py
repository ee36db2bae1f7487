"""The integer network that a fused one becomes, without its values: what the compiler needs to say
whether it fits an array and about how many cycles it takes."""

from collections.abc import Mapping

import numpy as np

from nupes.arch.cells import codebook_rule
from nupes.model.arithmetic import Y_RANGE
from nupes.model.codebook import Codebook, make_codebook
from nupes.model.layer import Encoder, Layer, Post, Requantize, Residual
from nupes.model.network import Constant, Input, InputEncoder, IntegerNetwork, Output
from nupes.model.operators import Operator
from nupes.model.tensor import Coded, Port, Tensor, Wide
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.frontend.functions import build_encoder
from nupes.quantizer.lowering.ports import (
    find_ranges,
    ports_of,
    residual_port,
    stages_of_layers,
)
from nupes.quantizer.options.bits import plan_bits
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.stages.joins import join_tensors
from nupes.quantizer.stages.masks import masks_of
from nupes.quantizer.stages.stage import FusedNetwork, Stage, weighted
from nupes.quantizer.stages.wide import wide_roots

__all__ = ["bare_network", "bare_operator"]

REACH = 8.0
"""Magnitude up to which a skeleton's pre-activations reach: beyond it every function is flat or
straight."""


def bare_network(
    network: FusedNetwork, scheme: str, overrides: Mapping[str, str], cell: str = "decode"
) -> IntegerNetwork:
    """Return an integer network with a fused network's shapes and bits, codebooks that a kind of
    cells holds, and no values.

    It stands for the quantized one in front of the compiler: layers, bits and memories are the
    same; how many tables coincide is not known yet, so its cycles are an estimate. Raises
    ``UnsupportedError`` for a function that no encoder can hold.
    """
    plan = plan_bits(network, parse_scheme(scheme), 8, None, 8, overrides)
    books = stand_ins(network, plan.tensors, cell)
    tensors = {
        name: Tensor(name, shape, Coded(books[name], 1.0))
        for name, shape in network.shapes.items()
        if name in books
    }
    wide = wide_roots(network)
    for name in wide:
        tensors[name] = Tensor(name, network.shapes[name], Wide(1.0))
    layers, ranges, masks = [], find_ranges(network), masks_of(network)
    for index, stage in enumerate(stages_of_layers(network), start=1):
        output = tensors.get(stage.name, Tensor(stage.name, stage.shape, Wide(1.0)))
        op = bare_operator(stage, plan.weights.get(stage.name, 8), index, cell)
        ports = ports_of(stage, ranges)
        layers.append(Layer(stage.name, op, ports, output, bare_post(stage, output, ranges, masks)))
    return IntegerNetwork(
        tuple(bare_input(tensors[name]) for name in network.entered),
        tuple(layers),
        tuple(Output(name, shape) for name, shape in network.outputs),
        constants=tuple(
            Constant(tensors[item.name], np.zeros(item.shape, np.uint8))
            for item in network.constants
        ),
    )


def bare_input(tensor: Tensor) -> Input:
    """Return an input that codes real numbers somehow."""
    thresholds = np.arange(1.0, len(tensor.codebook))
    return Input(tensor, InputEncoder(np.tile(thresholds, (tensor.shape[2], 1))))


def stand_ins(network: FusedNetwork, bits: Mapping[str, int], cell: str) -> dict[str, Codebook]:
    """Return a codebook for every tensor that is stored, another one for each that shares none."""
    low = dict.fromkeys(network.entered, 0.0)
    low |= {item.name: float(item.values.min()) for item in network.constants}
    low |= {stage.name: stage.low for stage in network.stages}
    joins, order = join_tensors(network), list(network.shapes)
    books = {}
    for name in order:
        if name in network.emitted:
            continue
        root = joins.root[name]
        signed = min(low[member] for member in joins.members(root)) < 0
        books[name] = stand_in(bits[name], signed, order.index(root), cell)
    return books


def stand_in(bits: int, signed: bool, index: int, cell: str, weight: bool = False) -> Codebook:
    """Return a codebook of some bits that a cell holds, another one for each index if it may."""
    rule = codebook_rule(cell, bits, signed, weight)
    if bits == 8 or rule.family == "uniform":
        return make_codebook("uniform", bits, signed)
    lmax = rule.lmax_of((1 << (bits - signed)) - 1) or (127 if signed else 255)
    exponent = rule.exponents[0] if rule.exponents else 0.5 + index % 64 / 128
    return make_codebook("power", bits, signed, lmax, exponent)


def bare_post(
    stage: Stage, output: Tensor, ranges: Mapping[str, Port], masks: Mapping[str, str]
) -> Post | None:
    """Return what follows a stage's accumulator, if it has one."""
    if not stage.op.accumulates:
        return None
    ones = np.ones(stage.shape[2], np.int32)
    tail = Requantize(ones, 0 * ones.astype(np.int64), ones)
    added = masks.get(stage.name, stage.residual)
    residual = None if added is None else Residual(residual_port(added, ranges), 1, 1)
    wide = isinstance(output.format, Wide)
    return Post(tail, residual, None if wide else plausible_encoder(stage, output.codebook))


def plausible_encoder(stage: Stage, codebook: Codebook) -> Encoder:
    """Return a stage's encoder for values up to ``REACH``; a function that has none is refused."""
    largest = float(np.abs(codebook.levels).max())
    scale = min(REACH, max(abs(stage.function.low), stage.function.high)) / largest
    where = f"layer {stage.name!r}"
    return build_encoder(stage.function, REACH / Y_RANGE[1], codebook, scale, where)


def bare_operator(stage: Stage, bits: int, index: int, cell: str = "decode") -> Operator:
    """Return a stage's operator; the weights of a convolution are all the level nearest zero."""
    found = weighted([stage])
    if not found:
        return stage.op.lower(None)
    shape = found[stage.name].kernel.shape
    codebook = stand_in(bits, True, index, cell, weight=True)
    code = int(np.abs(codebook.levels).argmin())
    return stage.op.lower(WeightCode(codebook, np.full(shape, code, np.uint8), np.ones(shape[0])))
