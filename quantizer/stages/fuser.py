"""Fusing: the float graph to stages, each one layer of the integer network.

A stage is an operator, the affines after it (folded in its weights), one addition of a stored
tensor and a pointwise function, as long as nothing else reads the values in between. What another
stage reads is stored.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nupes.model.errors import UnsupportedError
from nupes.model.operators import MaxPool, Padding, Select
from nupes.quantizer.frontend.functions import IDENTITY, Function
from nupes.quantizer.frontend.graph import (
    Add,
    Affine,
    Convolution,
    Graph,
    Input,
    Node,
    Opaque,
    Pad,
    Pool,
    Shape,
)

__all__ = ["FusedNetwork", "Stage", "fold_affine", "fuse"]


@dataclass(frozen=True, eq=False)
class Stage:
    """``function(gain * op(source) + bias + residual)``, stored under its own name.

    ``gain`` and ``bias`` are (n,) float64; a convolution's gain is 1. ``mean`` and ``std`` (n,)
    describe the value before the residual where a batch norm says so. ``low`` bounds the stored
    values from below.
    """

    name: str
    op: Convolution | Pool | Select | MaxPool
    source: str
    shape: Shape
    gain: np.ndarray
    bias: np.ndarray
    residual: str | None = None
    function: Function = IDENTITY
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    low: float = -np.inf

    @property
    def copies_codes(self) -> bool:
        """Whether the stored codes are codes of the source, so that both share one codebook."""
        plain = self.residual is None and self.function is IDENTITY
        return isinstance(self.op, MaxPool) or (
            isinstance(self.op, Select)
            and plain
            and bool((self.gain == 1).all())
            and not self.bias.any()
        )


@dataclass(frozen=True, eq=False)
class FusedNetwork:
    """Stages in execution order; the last one is not stored. The input is ``scale * x + shift`` per
    channel."""

    input: Node
    input_scale: np.ndarray
    input_shift: np.ndarray
    stages: tuple[Stage, ...]
    output_shape: tuple[int, ...]

    def scale_input(self, inputs: Tensor) -> Tensor:
        """Return inputs (b, c, h, w) with the input's affine applied."""
        shape = (1, -1, 1, 1)
        scale, shift = (
            torch.from_numpy(values.astype(np.float32)).reshape(shape)
            for values in (self.input_scale, self.input_shift)
        )
        return inputs * scale + shift

    def readers(self) -> dict[str, list[Stage]]:
        """Return the stages that read each stored tensor, as operand or as residual."""
        found: dict[str, list[Stage]] = {self.input.name: []}
        for stage in self.stages:
            found[stage.name] = []
            for name in {stage.source, stage.residual} - {None}:
                found[name].append(stage)
        return found


def fold_affine(op: Convolution, affine: Affine) -> Convolution:
    """Return the convolution that equals ``affine(op(x))``."""
    scale = affine.scale.reshape(-1, 1, 1, 1)
    return replace(op, weight=op.weight * scale, bias=op.bias * affine.scale + affine.shift)


def depthwise(affine: Affine) -> Convolution:
    """Return the depthwise 1x1 convolution that equals an affine."""
    channels = len(affine.scale)
    return Convolution(affine.scale.reshape(-1, 1, 1, 1), affine.shift, groups=channels)


def fuse(graph: Graph) -> FusedNetwork:
    """Return the stages of a captured graph."""
    fuser = Fuser(graph)
    for node in graph.nodes.values():
        fuser.visit(node)
    fuser.finish()
    return FusedNetwork(
        graph.input,
        fuser.input_scale,
        fuser.input_shift,
        tuple(map(widen, fuser.stages)),
        graph.output_shape,
    )


def widen(stage: Stage) -> Stage:
    """Return a stage with its weights in float64."""
    if not isinstance(stage.op, Convolution):
        return stage
    return replace(stage, op=replace(stage.op, weight=np.asarray(stage.op.weight, np.float64)))


class Fuser:
    """Walks the graph once. ``pending`` holds a stage per node that may still grow."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.counts = graph.consumers()
        self.stages: list[Stage] = []
        self.pending: dict[str, Stage] = {}
        self.stored: dict[str, str] = {graph.input.name: graph.input.name}
        self.pads: dict[str, tuple[str, Padding]] = {}
        self.low: dict[str, float] = {graph.input.name: -np.inf}
        self.input_scale = np.ones(graph.input.shape[2])
        self.input_shift = np.zeros(graph.input.shape[2])
        self.raw_input = graph.input.name

    def visit(self, node: Node) -> None:
        """Extend the stage of the node's operand, or start a new one."""
        op = node.op
        if isinstance(op, Input):
            return
        if isinstance(op, Opaque):
            self.visit_opaque(node)
        elif isinstance(op, Pad):
            self.visit_pad(node, op)
        elif isinstance(op, Affine):
            self.visit_affine(node, op)
        elif isinstance(op, Add):
            self.visit_add(node)
        elif isinstance(op, Function):
            self.visit_function(node, op)
        elif isinstance(op, Select):
            self.visit_select(node, op)
        else:
            self.visit_window(node, op)

    def visit_opaque(self, node: Node) -> None:
        """Close what a refused call reads, and let its value be a stored tensor."""
        for name in node.inputs:
            if name not in self.pads:
                self.tensor(name)
        self.stored[node.name], self.low[node.name] = node.name, -np.inf

    def visit_pad(self, node: Node, op: Pad) -> None:
        """Remember padding for the operator that reads it."""
        source, before = self.pads.get(node.inputs[0], (node.inputs[0], (0, 0, 0, 0)))
        self.pads[node.name] = (source, add_padding(before, op.padding))
        self.low[node.name] = min(self.low_of(source), 0.0)

    def visit_window(self, node: Node, op: Convolution | Pool | MaxPool) -> None:
        """Start a stage with an operator that takes padding."""
        source, padding = self.pads.get(node.inputs[0], (node.inputs[0], (0, 0, 0, 0)))
        low = self.low_of(source)
        if any(padding):
            if isinstance(op, MaxPool) and low < 0:
                raise UnsupportedError(
                    f"zero padding before max-pool {node.name!r} must be of values that are never "
                    "negative; use the pool's own padding"
                )
            if isinstance(op, Pool):
                window = replace(op.op, padding=add_padding(op.op.padding, padding))
                op = replace(op, op=window)
            else:
                op = replace(op, padding=add_padding(op.padding, padding))
        low = op.bound(low) if isinstance(op, Pool) else low
        channels = node.shape[2]
        gain = np.full(channels, op.gain) if isinstance(op, Pool) else np.ones(channels)
        bias = op.bias if isinstance(op, Convolution) else np.zeros(channels)
        self.start(node, op, source, gain, bias, -np.inf if isinstance(op, Convolution) else low)

    def visit_affine(self, node: Node, op: Affine) -> None:
        """Fold an affine in the host's encoder, in the stage before it, or make it a stage."""
        source = node.inputs[0]
        if source == self.raw_input and self.counts[source] == 1 and (op.scale > 0).all():
            self.input_scale = self.input_scale * op.scale
            self.input_shift = self.input_shift * op.scale + op.shift
            self.raw_input = node.name
            self.stored[node.name] = self.graph.input.name
            self.low[node.name] = -np.inf
            return
        stage = self.open_stage(source)
        convolution = stage is not None and isinstance(stage.op, Convolution)
        if (
            stage is None
            or stage.function is not IDENTITY
            or stage.residual is not None
            or not (convolution or (op.scale >= 0).all())
        ):
            conv = depthwise(op)
            ones = np.ones(len(op.scale))
            self.start(node, conv, source, ones, conv.bias, -np.inf, mean=op.mean, std=op.std)
            return
        mean, std = op.mean, op.std
        if mean is None and stage.mean is not None:
            mean, std = stage.mean * op.scale + op.shift, stage.std * np.abs(op.scale)
        if isinstance(stage.op, Convolution):
            folded = fold_affine(stage.op, op)
            stage = replace(stage, op=folded, bias=folded.bias)
        else:
            stage = replace(
                stage, gain=stage.gain * op.scale, bias=stage.bias * op.scale + op.shift
            )
        self.extend(node, replace(stage, mean=mean, std=std, low=-np.inf))

    def visit_add(self, node: Node) -> None:
        """Add a stored tensor to the larger open operand, or to an identity."""
        first, second = node.inputs
        candidates = []
        for name, other in ((first, second), (second, first)):
            stage = self.open_stage(name)
            if stage and stage.residual is None and stage.function is IDENTITY and name != other:
                size = stage.op.weight.size if isinstance(stage.op, Convolution) else 0
                candidates.append((size, name, other, stage))
        low = self.low_of(first) + self.low_of(second)
        if candidates:
            _, name, other, stage = max(candidates, key=lambda item: item[0])
            residual = self.tensor(other)
            self.extend(node, replace(stage, residual=residual, low=low))
            return
        stage = self.identity(node, first)
        self.extend(node, replace(stage, residual=self.tensor(second), low=low))

    def visit_function(self, node: Node, op: Function) -> None:
        """Append a function to the stage before it, or to an identity."""
        stage = self.open_stage(node.inputs[0])
        if stage is None or stage.function is not IDENTITY:
            stage = self.identity(node, node.inputs[0])
        self.extend(node, replace(stage, function=op, low=op.low))

    def visit_select(self, node: Node, op: Select) -> None:
        """Merge a selection in the one before it, or start a stage."""
        stage = self.open_stage(node.inputs[0])
        if stage is not None and isinstance(stage.op, Select) and stage.copies_codes:
            inner = stage.op
            stride = (inner.stride[0] * op.stride[0], inner.stride[1] * op.stride[1])
            merged = Select(op.channels, inner.offset + op.offset, stride)
            gain, bias = np.ones(op.channels), np.zeros(op.channels)
            self.extend(node, replace(stage, op=merged, gain=gain, bias=bias))
            return
        gain, bias = np.ones(op.channels), np.zeros(op.channels)
        low = min(self.low_of(node.inputs[0]), 0.0)
        self.start(node, op, node.inputs[0], gain, bias, low)

    def identity(self, node: Node, source: str) -> Stage:
        """Return a stage that copies a stored tensor."""
        tensor, channels = self.tensor(source), node.shape[2]
        ones, zeros = np.ones(channels), np.zeros(channels)
        op = Select(channels)
        return Stage(node.name, op, tensor, node.shape, ones, zeros, low=self.low_of(source))

    def start(self, node, op, source, gain, bias, low, mean=None, std=None) -> None:
        """Open a stage that reads a stored tensor."""
        self.pending[node.name] = Stage(
            node.name,
            op,
            self.tensor(source),
            node.shape,
            gain,
            bias,
            mean=mean,
            std=std,
            low=low,
        )
        self.low[node.name] = low

    def extend(self, node: Node, stage: Stage) -> None:
        """Let a grown stage stand for this node."""
        self.pending[node.name] = replace(stage, shape=node.shape)
        self.low[node.name] = stage.low

    def open_stage(self, name: str) -> Stage | None:
        """Return the stage of a node that only one node reads, if it can grow."""
        stage = self.pending.get(name)
        if stage is None or self.counts[name] != 1 or isinstance(stage.op, MaxPool):
            return None
        return stage

    def low_of(self, name: str) -> float:
        """Return a lower bound of a node's values."""
        return self.low[name]

    def tensor(self, name: str) -> str:
        """Return the stored tensor of a node; close its stage if it is still open."""
        if name in self.pads:
            raise UnsupportedError(
                f"zero padding {name!r} must be read by a convolution or a pool alone"
            )
        if name not in self.stored:
            stage = self.pending.pop(name)
            self.stages.append(stage)
            self.stored[name] = stage.name
        return self.stored[name]

    def finish(self) -> None:
        """Close the output's stage; a stored output gets an identity that stops at ``y``."""
        output = self.graph.output
        stage = self.pending.get(output)
        if stage and stage.function is IDENTITY and not isinstance(stage.op, MaxPool):
            self.stages.append(stage)
            return
        node = self.graph.nodes[output]
        name = "output"
        tensor = self.tensor(output)
        while any(stage.name == name for stage in self.stages):
            name += "_"
        identity = self.identity(node, output)
        self.stages.append(replace(identity, name=name, source=tensor))


def add_padding(first: Padding, second: Padding) -> Padding:
    """Return the sum of two paddings."""
    top, bottom, left, right = (a + b for a, b in zip(first, second, strict=True))
    return top, bottom, left, right
