"""The captured float network: nodes in execution order, shapes as (h, w, c).

A node reads earlier nodes by name. Flattening leaves no node: a flattened tensor is the map that it
flattens.
"""

from dataclasses import dataclass, field

import numpy as np
from torch import fx

from nupes.model.operators import AveragePool, Operator, Padding
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.program import Program

__all__ = [
    "Add",
    "Affine",
    "Concat",
    "Constant",
    "Convolution",
    "Graph",
    "Input",
    "Node",
    "Normalize",
    "Op",
    "Pad",
    "Places",
    "Pool",
    "Product",
    "Shape",
]

Shape = tuple[int, int, int]
"""Height, width and channels of a map."""

Places = np.ndarray | list[np.ndarray]
"""Where the numbers of a tensor's image lie in a node's map, for several tensors a list."""


@dataclass(frozen=True)
class Input:
    """An input of the network."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A map that the module holds: ``values`` (h, w, c) float64, the same for every image."""

    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Convolution:
    """``weight`` (n, c // groups, kh, kw), as the module holds it, and ``bias`` (n,), float64;
    linear layers as well. ``stretch`` is that of a transposed convolution."""

    weight: np.ndarray
    bias: np.ndarray
    stride: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    stretch: tuple[int, int] = (1, 1)


@dataclass(frozen=True, eq=False)
class Affine:
    """``scale * x + shift`` per channel, both (c,) float64; of more channels than those of its
    source, as many in turn are of one of them.

    A batch norm also says how its output is distributed over its training data: ``mean`` and
    ``std`` (c,).
    """

    scale: np.ndarray
    shift: np.ndarray
    mean: np.ndarray | None = None
    std: np.ndarray | None = None

    @property
    def is_uniform(self) -> bool:
        """Whether all channels have one scale and one shift."""
        return bool((self.scale == self.scale[0]).all() and (self.shift == self.shift[0]).all())


@dataclass(frozen=True)
class Pad:
    """Spatial padding with zeros, or with what is below all values, to be folded in the operator
    that reads it."""

    padding: Padding
    lowest: bool = False


@dataclass(frozen=True)
class Add:
    """Sum of two tensors of one shape."""


@dataclass(frozen=True)
class Concat:
    """The channels of all operands, one operand after another."""


@dataclass(frozen=True)
class Product:
    """The first operand, whose sizes may be 1, times the second one, elementwise."""


@dataclass(frozen=True)
class Normalize:
    """Each pixel's ``channels`` over the root of their mean square and ``epsilon``, their mean
    subtracted first if ``centered``."""

    channels: int
    centered: bool
    epsilon: float


@dataclass(frozen=True)
class Pool:
    """A sum over a window, times ``gain``, which is positive."""

    op: AveragePool
    gain: float

    def bound(self, low: float) -> float:
        """Return a lower bound of the values, from one of the values that are read."""
        kernel = self.op.kernel
        full = low * self.gain * kernel[0] * kernel[1]
        return min(full, 0.0) if max(self.op.padding) > 0 else full


Op = (
    Input
    | Constant
    | Convolution
    | Affine
    | Pad
    | Add
    | Concat
    | Product
    | Normalize
    | Pool
    | Operator
    | Function
)
"""What a node does; an operator of the integer network stands for itself on real values."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operator. ``name`` is its module path, made unique."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    shape: Shape


@dataclass
class Graph:
    """A captured network: ``nodes`` by name in execution order, its inputs first; ``outputs`` are
    nodes by name, and the shape of one result as the module gives it.

    ``calls`` are the calls of the captured ``program`` whose values the nodes are, or some rows of
    them, ``cuts``; ``views`` says where the values of calls lie that are not a node in its own
    order, one after another.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    outputs: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    calls: dict[str, fx.Node] = field(default_factory=dict)
    views: dict[fx.Node, Places] = field(default_factory=dict)
    cuts: dict[str, range] = field(default_factory=dict)
    program: Program | None = None

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The nodes that stand for the network's inputs."""
        nodes = self.nodes.values()
        return tuple(x for x in nodes if isinstance(x.op, Input) and not x.inputs)

    def prune(self) -> None:
        """Drop the nodes that no output depends on; inputs stay."""
        alive = {*(node.name for node in self.inputs), *(name for name, _ in self.outputs)}
        for node in reversed(self.nodes.values()):
            if node.name in alive:
                alive.update(node.inputs)
        self.nodes = {name: node for name, node in self.nodes.items() if name in alive}

    def consumers(self) -> dict[str, int]:
        """Return how often each node is read, as the network's outputs included."""
        counts = dict.fromkeys(self.nodes, 0)
        for node in self.nodes.values():
            for name in node.inputs:
                counts[name] += 1
        for name, _ in self.outputs:
            counts[name] += 1
        return counts
