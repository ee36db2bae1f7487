"""The facts of a report, as plain data: of the network, of images that it runs, of an array.

Nothing here draws, and nothing is estimated: what the artifact does not hold is None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nupes.compiler.program import Program
from nupes.explore.sweeps import Point, pareto
from nupes.model.arithmetic import Y_RANGE
from nupes.model.codebook import Codebook
from nupes.model.errors import InputError
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv

__all__ = [
    "Accuracy",
    "Codes",
    "LayerFacts",
    "Point",
    "Result",
    "Size",
    "gather_layers",
    "gather_size",
    "mark_pareto",
    "observe_codes",
    "parse_accuracy",
]

FLOAT_BYTES = 4


@dataclass(frozen=True, eq=False)
class Codes:
    """How often each level of a codebook occurs: ``levels`` (K,) in integer units, ``counts``
    (K,)."""

    levels: np.ndarray
    counts: np.ndarray
    bits: int
    family: str
    exponent: float | None
    scale: float | None = None

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    @property
    def at_ends(self) -> int:
        """Values at the outermost levels: the highest one, and the lowest if it is negative."""
        low = int(self.counts[0]) if len(self.levels) > 1 and self.levels[0] < 0 else 0
        return int(self.counts[-1]) + low

    @property
    def entropy(self) -> float:
        """Bits of information per value."""
        share = self.counts[self.counts > 0] / max(self.total, 1)
        return float(-(share * np.log2(share)).sum())


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """One layer. ``reads`` and ``stores`` are names of tensors, operands first. Shapes are (h, w,
    c); ``input_bits`` are those of the widest operand; ``saturated`` counts results at the ends of
    16 bits, of ``results`` observed ones.

    As the quantizer measured them: ``sqnr`` in dB of the result, with all errors before it;
    ``weight_sqnr`` of the weights alone; shares of weights ``moved`` from round-to-nearest, and
    ``beyond`` both neighbours of their real value.
    """

    index: int
    name: str
    operator: str
    reads: tuple[str, ...]
    stores: str
    shape: tuple[int, int, int]
    macs: int
    parameters: int
    input_bits: int
    weights: Codes | None = None
    output: Codes | None = None
    sqnr: float | None = None
    weight_sqnr: float | None = None
    moved: float | None = None
    beyond: float | None = None
    saturated: int | None = None
    results: int = 0
    cost: Mapping[str, Any] | None = None

    @property
    def output_range(self) -> tuple[float, float] | None:
        """Least and greatest real value that the stored tensor can take."""
        if self.output is None or self.output.scale is None:
            return None
        low, high = self.output.levels[[0, -1]] * self.output.scale
        return float(low), float(high)


@dataclass(frozen=True)
class Size:
    """Bytes: of the file, of the packed weight codes in it, of the same weights in float32."""

    file: int
    packed: int
    floats: int

    @property
    def ratio(self) -> float:
        """How many times smaller the weights have become."""
        return self.floats / max(self.packed, 1)


@dataclass(frozen=True)
class Accuracy:
    """Fractions of images at whose label the result is greatest."""

    images: int
    integer: float
    real: float | None = None


@dataclass(frozen=True)
class Result:
    """One measured accuracy: ``bits`` of the weights, and the ``series`` that it belongs to."""

    bits: float
    accuracy: float
    series: str


def gather_size(network: IntegerNetwork, file: int) -> Size:
    """Return the sizes of a network whose artifact has ``file`` bytes."""
    convs = [layer.op for layer in network.layers if isinstance(layer.op, Conv)]
    packed = sum(-(-op.codes.size * op.codebook.bits // 8) for op in convs)
    return Size(file, packed, FLOAT_BYTES * sum(op.codes.size for op in convs))


def count_codes(codes: np.ndarray, book: Codebook, scale: float | None = None) -> Codes:
    """Return how often each level of a codebook occurs among codes."""
    counts = np.bincount(codes.reshape(-1), minlength=len(book))
    return Codes(book.levels, counts, book.bits, book.family, book.exponent, scale)


def recorded(network: IntegerNetwork) -> dict[str, Mapping[str, Any]]:
    """Return what the quantizer recorded of each layer, by name; {} where it did not."""
    entries = network.metadata.get("layers", [])
    if isinstance(entries, Mapping):
        return dict(entries)
    return {str(entry.get("name")): entry for entry in entries if isinstance(entry, Mapping)}


def number(entry: Mapping[str, Any], *path: str) -> float | None:
    """Return a number that the quantizer recorded, None if it is not there."""
    value: Any = entry
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def gather_layers(
    network: IntegerNetwork,
    program: Program | None = None,
    observed: Mapping[str, tuple[Codes | None, int | None, int]] | None = None,
) -> list[LayerFacts]:
    """Return the facts of every layer; costs are those of ``program``, activations those of
    ``observe_codes``."""
    tensors, macs = network.tensors, network.macs
    entries = recorded(network)
    described = [] if program is None else program.describe_layers()
    costs = {layer["name"]: layer for layer in described}
    facts = []
    for index, layer in enumerate(network.layers):
        op = layer.op
        entry = entries.get(layer.name, {})
        weights = None
        parameters = 0
        if isinstance(op, Conv):
            weights = count_codes(op.codes, op.codebook)
            parameters = op.codes.size + len(op.codes)
        output, saturated, results = (observed or {}).get(layer.name, (None, None, 0))
        if output is None and not layer.wide:
            book = layer.output.codebook
            output = count_codes(np.zeros(0, np.int64), book, layer.output.scale)
        reads = tuple(port.tensor for port in layer.reads)
        facts.append(
            LayerFacts(
                index,
                layer.name,
                op.words(*network.input_shapes(layer)) + (" + add" if layer.residual else ""),
                reads,
                layer.output.name,
                layer.output.shape,
                macs[layer.name],
                parameters,
                max(tensors[port.tensor].format.bits for port in layer.inputs),
                weights,
                output,
                number(entry, "sqnr"),
                number(entry, "weights", "sqnr"),
                number(entry, "weights", "moved"),
                number(entry, "weights", "beyond"),
                saturated,
                results,
                costs.get(layer.name),
            )
        )
    return facts


def observe_codes(
    network: IntegerNetwork, *images: np.ndarray
) -> dict[str, tuple[Codes | None, int | None, int]]:
    """Run images (b, c, h, w), an array for each input; return for each layer the codes that it
    stored, how many of its 16-bit results were saturated (None for an operator that copies codes),
    and of how many."""
    stored = network.begin(*network.encode_all(*images))
    found: dict[str, tuple[Codes | None, int | None, int]] = {}
    for layer in network.layers:
        operands, bound = network.operands(layer, stored), network.bounds.get(layer.name, 0)
        values, saturated = layer.run(operands, bound), None
        if not layer.op.copies:
            y = layer.results(operands, bound)
            saturated = int(((y == Y_RANGE[0]) | (y == Y_RANGE[1])).sum())
        codes = None
        if not layer.wide:
            codes = count_codes(values, layer.output.codebook, layer.output.scale)
        stored[layer.output.name] = values
        found[layer.name] = (codes, saturated, 0 if saturated is None else values.size)
    return found


def mark_pareto(points: Sequence[Point]) -> list[tuple[Point, bool]]:
    """Return the arrays that can run, smallest first, each with whether none beats it."""
    front = {point.costs for point in pareto(points)}
    able = [point for point in points if not point.refusal]
    return [(point, point.costs in front) for point in sorted(able, key=lambda p: p.costs[1:])]


def parse_accuracy(data: Any) -> list[Result]:
    """Return measured accuracies from JSON data: a list of objects with ``bits`` (of the weights),
    ``accuracy`` (0 to 1) and, if there are several, ``series``."""
    results = []
    if not isinstance(data, list):
        raise InputError(f"accuracies must be a JSON list of objects, not {type(data).__name__}")
    for number, entry in enumerate(data):
        bits = entry.get("bits") if isinstance(entry, dict) else None
        value = entry.get("accuracy") if isinstance(entry, dict) else None
        if not isinstance(bits, int | float) or not isinstance(value, int | float):
            raise InputError(
                f'accuracy {number} must have numbers "bits" and "accuracy", not {entry!r}'
            )
        if not 1 <= bits <= 32:
            raise InputError(f"accuracy {number} must have bits from 1 to 32, not {bits}")
        if not 0 <= value <= 1:
            raise InputError(f"accuracy {number} must be a fraction from 0 to 1, not {value}")
        results.append(Result(float(bits), float(value), str(entry.get("series", ""))))
    return results
