"""Fusing: the float graph to stages, each one layer of the integer network.

A stage is an operator, the affines after it (folded in its weights), one addition of a stored
tensor and a pointwise function, as long as nothing else reads the values in between. What another
stage reads is stored.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from nupes.model.names import free_name
from nupes.model.operators import Padding
from nupes.quantizer.frontend.functions import IDENTITY, Function
from nupes.quantizer.frontend.graph import Add, Affine, Constant, Graph, Input, Node, Pad
from nupes.quantizer.stages.masks import split_scores
from nupes.quantizer.stages.operators import Beginning, Convolution, Select, begin
from nupes.quantizer.stages.operators.base import add_padding
from nupes.quantizer.stages.stage import Entry, FusedNetwork, Held, Stage
from nupes.quantizer.stages.streams import split_streams

__all__ = ["fuse"]


def fuse(graph: Graph) -> FusedNetwork:
    """Return the stages of a captured graph."""
    fuser = Fuser(graph)
    for node in graph.nodes.values():
        fuser.visit(node)
    fuser.sort()
    fuser.finish()
    network = FusedNetwork(
        tuple(fuser.entries.values()),
        tuple(fuser.stages),
        tuple(fuser.outputs),
        tuple(fuser.constants),
    )
    return split_streams(split_scores(network))


class Fuser:
    """Walks the graph once. ``pending`` holds a stage per node that may still grow, ``growing`` the
    name of an input per node that is nothing but an affine of it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.counts = graph.consumers()
        self.stages: list[Stage] = []
        self.outputs: list[tuple[str, tuple[int, ...]]] = []
        self.pending: dict[str, Stage] = {}
        self.stored: dict[str, str] = {}
        self.pads: dict[str, tuple[str, Padding]] = {}
        self.low: dict[str, float] = {}
        self.entries: dict[str, Entry] = {}
        self.growing: dict[str, str] = {}
        self.constants: list[Held] = []
        self.places = {name: place for place, name in enumerate(graph.nodes)}
        self.ends: dict[str, int] = {}

    def visit(self, node: Node) -> None:
        """Extend the stage of the node's operand, or start a new one."""
        op = node.op
        if isinstance(op, Input):
            channels = node.shape[2]
            entry = Entry(node.name, node.shape, np.ones(channels), np.zeros(channels))
            self.enter(node, entry)
        elif isinstance(op, Constant):
            self.constants.append(Held(node.name, op.values))
            self.stored[node.name] = node.name
            self.low[node.name] = float(op.values.min())
        elif isinstance(op, Pad):
            self.visit_pad(node, op)
        elif isinstance(op, Affine):
            self.visit_affine(node, op)
        elif isinstance(op, Add):
            self.visit_add(node)
        elif isinstance(op, Function):
            self.visit_function(node, op)
        else:
            self.visit_operator(node)

    def enter(self, node: Node, entry: Entry) -> None:
        """Let an input be stored as the value of a node."""
        self.entries[entry.name] = entry
        self.growing[node.name] = self.stored[node.name] = entry.name
        self.low[node.name] = -np.inf

    def visit_pad(self, node: Node, op: Pad) -> None:
        """Remember padding for the operator that reads it."""
        source, before = self.pads.get(node.inputs[0], (node.inputs[0], (0, 0, 0, 0)))
        self.pads[node.name] = (source, add_padding(before, op.padding))
        self.low[node.name] = min(self.low[source], 0.0)

    def visit_operator(self, node: Node) -> None:
        """Start a stage with an operator, or merge it in the operator before."""
        op, gain, bias = begin(node.op)
        sources = list(node.inputs)
        if isinstance(op, Select) and (self.reorder(node, op) or self.join(node, op)):
            return
        if len(sources) == 1 and sources[0] in self.pads:
            source, padding = self.pads[sources[0]]
            padded = op.pad(padding, self.low[source])
            if padded is not None:
                op, sources = padded, [source]
        low = scaled_bound(op.lower_bound(*(self.low[name] for name in sources)), gain, bias)
        self.start(node, Beginning(op, gain, bias), sources, low)

    def reorder(self, node: Node, op: Select) -> bool:
        """Let a convolution give its channels in the order in which alone they are read, if that is
        all that a selection does."""
        channels, stage = op.numbers, self.open_stage(node.inputs[0])
        if stage is None or stage.residual or not isinstance(stage.op, Convolution):
            return False
        taken = stage.op.take_output(channels)
        alone = op == Select(op.channels) and len(set(op.channels)) == len(op.channels)
        if taken is None or not alone or min(channels) < 0:
            return False
        mean, std = (None if x is None else x[channels] for x in (stage.mean, stage.std))
        gain, bias = stage.gain[channels], stage.bias[channels]
        stage = replace(stage, op=taken, gain=gain, bias=bias, mean=mean, std=std)
        self.extend(node, stage)
        return True

    def join(self, node: Node, op: Select) -> bool:
        """Let one selection be two, if nothing else reads the first one."""
        stage = self.open_stage(node.inputs[0])
        if stage is None or not isinstance(stage.op, Select) or not stage.copies_codes:
            return False
        joined, n = op.after(stage.op), node.shape[2]
        if joined is None:
            return False
        self.extend(node, replace(stage, op=joined, gain=np.ones(n), bias=np.zeros(n)))
        return True

    def visit_affine(self, node: Node, op: Affine) -> None:
        """Fold an affine in the host's encoder, in the stage before it, or make it a stage."""
        source = node.inputs[0]
        if source in self.growing and self.counts[source] == 1 and (op.scale > 0).all():
            entry = self.entries[self.growing[source]]
            scale, shift = entry.scale * op.scale, entry.shift * op.scale + op.shift
            self.enter(node, replace(entry, scale=scale, shift=shift))
            return
        stage = self.open_stage(source)
        if (
            stage is None
            or stage.function is not IDENTITY
            or stage.residual is not None
            or not (isinstance(stage.op, Convolution) or stage.op.any_gain or (op.scale >= 0).all())
        ):
            channels = self.graph.nodes[source].shape[2]
            start = Beginning(Convolution.of_channels(op.scale, channels), bias=op.shift)
            self.start(node, start, [source], -np.inf, mean=op.mean, std=op.std)
            return
        times = len(op.scale) // stage.shape[2]
        mean, std = op.mean, op.std
        if mean is None and stage.mean is not None and stage.std is not None:
            mean = stage.mean.repeat(times) * op.scale + op.shift
            std = stage.std.repeat(times) * np.abs(op.scale)
        if isinstance(stage.op, Convolution):
            gain = np.ones(len(op.scale))
            stage = replace(stage, op=stage.op.scale_output(op.scale), gain=gain)
        else:
            stage = replace(stage, gain=stage.gain.repeat(times) * op.scale)
        bias = stage.bias.repeat(times) * op.scale + op.shift
        self.extend(node, replace(stage, bias=bias, mean=mean, std=std, low=-np.inf))

    def visit_add(self, node: Node) -> None:
        """Add a stored tensor to the larger open operand, or to an identity."""
        first, second = node.inputs
        candidates = []
        for name, other in ((first, second), (second, first)):
            stage = self.open_stage(name)
            free = stage and stage.residual is None and stage.op.takes_residual
            if stage and free and stage.function is IDENTITY and name != other:
                size = stage.op.kernel.size if isinstance(stage.op, Convolution) else 0
                candidates.append((size, name, other, stage))
        low = self.low[first] + self.low[second]
        if candidates:
            _, name, other, stage = max(candidates, key=lambda item: item[0])
            residual = self.tensor(other)
            self.extend(node, replace(stage, residual=residual, low=low))
            return
        if second in self.pads:
            first, second = second, first
        stage = self.identity(node, first)
        self.extend(node, replace(stage, residual=self.tensor(second), low=low))

    def visit_function(self, node: Node, op: Function) -> None:
        """Append a function to the stage before it, or to an identity."""
        stage = self.open_stage(node.inputs[0])
        if stage is None or stage.function is not IDENTITY:
            stage = self.identity(node, node.inputs[0])
        self.extend(node, replace(stage, function=op, low=op.low))

    def identity(self, node: Node, source: str) -> Stage:
        """Return a stage that copies a stored tensor, with zeros around it if it is padded."""
        origin, padding = self.pads.get(source, (source, (0, 0, 0, 0)))
        tensor, channels = self.tensor(origin), node.shape[2]
        ones, zeros = np.ones(channels), np.zeros(channels)
        op = Select(tuple(range(channels)), padding=padding)
        return Stage(node.name, op, (tensor,), node.shape, ones, zeros, low=self.low[source])

    def start(
        self,
        node: Node,
        beginning: Beginning,
        sources: Iterable[str],
        low: float,
        mean: np.ndarray | None = None,
        std: np.ndarray | None = None,
    ) -> None:
        """Open a stage that reads stored tensors."""
        tensors = tuple(map(self.tensor, sources))
        gain, bias = (np.broadcast_to(x, node.shape[2:]).copy() for x in beginning[1:])
        self.pending[node.name] = Stage(
            node.name, beginning.op, tensors, node.shape, gain, bias, mean=mean, std=std, low=low
        )
        self.ends[node.name] = self.places[node.name]
        self.low[node.name] = low

    def extend(self, node: Node, stage: Stage) -> None:
        """Let a grown stage stand for this node."""
        self.pending[node.name] = replace(stage, shape=node.shape)
        self.ends[stage.name] = self.places[node.name]
        self.low[node.name] = stage.low

    def open_stage(self, name: str) -> Stage | None:
        """Return the stage of a node that only one node reads, if it can grow."""
        stage = self.pending.get(name)
        if stage is None or self.counts[name] != 1 or not stage.op.accumulates:
            return None
        return stage

    def tensor(self, name: str) -> str:
        """Return the stored tensor of a node; close its stage if it is still open, or pad for those
        readers that do not pad themselves."""
        if name not in self.stored:
            padded = name in self.pads
            node = self.graph.nodes[name]
            stage = self.identity(node, name) if padded else self.pending.pop(name)
            self.ends.setdefault(stage.name, self.places[name])
            self.stages.append(stage)
            self.stored[name] = stage.name
        return self.stored[name]

    def sort(self) -> None:
        """Put each stage where its last node is: what it reads comes before, and no tensor waits
        for what follows later, such as a head of attention for all heads' scores."""
        self.stages.sort(key=lambda stage: self.ends[stage.name])

    def finish(self) -> None:
        """Close the outputs' stages; a stored output gets an identity that stops at ``y``."""
        for output, shape in self.graph.outputs:
            stage = self.open_stage(output)
            if stage is None or stage.function is not IDENTITY:
                stage = self.identity(self.graph.nodes[output], output)
                taken = {stage.name for stage in (*self.stages, *self.pending.values())}
                stage = replace(stage, name=free_name("output", taken))
            self.pending.pop(output, None)
            self.stages.append(stage)
            self.outputs.append((stage.name, shape))


def scaled_bound(low: float, gain: np.ndarray | float, bias: np.ndarray | float) -> float:
    """Return a lower bound of ``gain * x + bias`` for values ``x >= low``; gains are positive."""
    return float((np.multiply(gain, low) + bias).min())
