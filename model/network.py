"""The integer network: a graph of layers over stored tensors, and its exact execution.

``IntegerNetwork`` is callable (float array in, float array out); between the host's encoding of the
input and the scale of the last layer there are only integers.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from nupes.model import summary
from nupes.model.arithmetic import (
    ACC_BITS,
    BIAS_BITS,
    MULT_MAX,
    SHIFT_RANGE,
    Y_RANGE,
    encode_table,
    requantize,
    residual_term,
)
from nupes.model.codebook import Codebook
from nupes.model.errors import CapacityError, InputError
from nupes.model.operators import (
    Conv,
    MaxPool,
    Operator,
    Select,
    accumulate,
    max_pool,
    output_shape,
)

__all__ = ["Encoder", "InputEncoder", "IntegerNetwork", "Layer", "Requantize", "Residual", "Tensor"]

CHUNK_PIXELS = 1 << 13
"""Input pixels that run at a time on one core: keeps patches in its cache, changes no value."""

BLAS = Lock()
"""Held while a network runs. Its BLAS has one thread, process-wide: products are small, and threads
that wait for the next one would keep a core busy."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A stored tensor: codes (h, w, c) whose value is ``scale * codebook.levels[code]``."""

    name: str
    shape: tuple[int, int, int]
    codebook: Codebook
    scale: float


@dataclass(frozen=True, eq=False)
class Requantize:
    """Per output channel: ``mult`` (n,) int32 in 0..65535, ``bias`` (n,) int64 signed 48-bit,
    ``shift`` (n,) int32 1..31."""

    mult: np.ndarray
    bias: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Residual:
    """A skip tensor added after the shift: ``(level * mult + 2**(shift-1)) >> shift``."""

    tensor: str
    mult: int
    shift: int


@dataclass(frozen=True, eq=False)
class Encoder:
    """Non-decreasing ``thresholds`` (t,) int16 and ``codes`` (t + 1,) uint8: code = ``codes[#{k : y
    >= thresholds[k]}]``."""

    thresholds: np.ndarray
    codes: np.ndarray

    @cached_property
    def table(self) -> np.ndarray:
        """The code of every ``y``: uint8 (65536,), indexed by the 16 bits of ``y``, unsigned."""
        return np.roll(encode_table(self.thresholds, self.codes), Y_RANGE[0])

    def __call__(self, y: np.ndarray) -> np.ndarray:
        """Return the codes, uint8, of int16 ``y`` of any shape."""
        return self.table.take(y.view(np.uint16))


@dataclass(frozen=True, eq=False)
class InputEncoder:
    """The host's encoder: ``thresholds`` (c, K - 1) float64, code = ``#{k : x >=
    thresholds[channel, k]}``."""

    thresholds: np.ndarray

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return codes (b, h, w, c) uint8 for real images (b, c, h, w)."""
        columns = [
            np.searchsorted(row, images[:, channel].astype(np.float64), side="right")
            for channel, row in enumerate(self.thresholds)
        ]
        return np.stack(columns, axis=3).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Layer:
    """One operator, its requantization, its skip tensor and its encoder.

    ``output`` is the tensor it stores. The last layer has neither output nor encoder: its result is
    ``y`` (int16). A max-pool has no requantization; it copies codes.
    """

    name: str
    op: Operator
    input: str
    output: Tensor | None
    requantize: Requantize | None = None
    residual: Residual | None = None
    encoder: Encoder | None = None


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """An integer network. ``layers`` are in execution order; the last one's ``y`` times ``scale``
    is the result.

    ``output_shape`` is the shape of one result as the float module gave it: (n,) or (n, h, w).
    ``metadata`` is free JSON data for people (scheme, per-layer report); no arithmetic reads it.
    """

    input: Tensor
    encoder: InputEncoder
    layers: tuple[Layer, ...]
    scale: float
    output_shape: tuple[int, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        validate(self)

    def __repr__(self) -> str:
        return summary.network_line(self)

    def _repr_html_(self) -> str:
        """Return the layers as a notebook shows them."""
        return summary.network_html(self)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return float64 results (b, *output_shape) for real images (b, c, h, w); raise
        ``InputError`` on bad input."""
        y = self._in_chunks(lambda part: self._run_chunk(self.encoder(part)), self._check(images))
        return y.astype(np.float64) * self.scale

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return the input codes (b, h, w, c) uint8 of real images (b, c, h, w)."""
        return self.encoder(self._check(images))

    def _check(self, images: np.ndarray) -> np.ndarray:
        """Return images as an array, or refuse them."""
        images = np.asarray(images)
        height, width, channels = self.input.shape
        if images.ndim != 4 or images.shape[1:] != (channels, height, width):
            raise InputError(
                f"images must have shape (batch, {channels}, {height}, {width}), not {images.shape}"
            )
        if not (
            np.issubdtype(images.dtype, np.floating) or np.issubdtype(images.dtype, np.integer)
        ):
            raise InputError(f"images must be real numbers, not {images.dtype}")
        if np.isnan(images).any():
            raise InputError(
                f"images must not contain NaN; image {np.argwhere(np.isnan(images))[0][0]} does"
            )
        return images

    def run(self, codes: np.ndarray) -> np.ndarray:
        """Return the last layer's int16 ``y`` (b, *output_shape) for input codes (b, h, w, c)."""
        return self._in_chunks(self._run_chunk, codes)

    def _in_chunks(self, work: Callable[[np.ndarray], np.ndarray], batch: np.ndarray) -> np.ndarray:
        """Return ``work`` of a batch, computed in parts that fit the caches, one on each core."""
        height, width, _ = self.input.shape
        step = max(1, CHUNK_PIXELS // (height * width))
        chunks = [batch[i : i + step] for i in range(0, len(batch), step)]
        if not chunks:
            return np.zeros((0, *self.output_shape), np.int16)
        with BLAS, blas_threads().limit(limits=1):
            if len(chunks) == 1:
                return work(chunks[0])
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return np.concatenate(list(pool.map(work, chunks)))

    def trace(self, codes: np.ndarray) -> Iterator[tuple[Layer, np.ndarray]]:
        """Yield each layer with what it stores: codes (b, h, w, c), or ``y`` (b, h, w, n) for the
        last one."""
        stored = {self.input.name: (self.input, codes)}
        for layer in self.layers:
            result = execute(layer, stored)
            if layer.output is not None:
                stored[layer.output.name] = (layer.output, result)
            yield layer, result

    def _run_chunk(self, codes: np.ndarray) -> np.ndarray:
        *_, (_, result) = self.trace(codes)
        return result.transpose(0, 3, 1, 2).reshape(len(codes), *self.output_shape)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the network to one safetensors file, in one step; return its path."""
        from nupes.model import artifact  # it describes this class

        return artifact.save(self, path)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Every stored tensor by name, in the order in which they come to be."""
        outputs = [layer.output for layer in self.layers if layer.output is not None]
        return {tensor.name: tensor for tensor in [self.input, *outputs]}

    def layer_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Output (h, w, c) of every layer by name."""
        tensors = self.tensors
        return {
            layer.name: output_shape(layer.op, tensors[layer.input].shape) for layer in self.layers
        }

    @property
    def macs(self) -> dict[str, int]:
        """Multiply-accumulates of each layer for one image; only convolutions and linear layers
        count."""
        shapes = self.layer_shapes()
        counts = {}
        for layer in self.layers:
            height, width, _ = shapes[layer.name]
            counts[layer.name] = (
                height * width * layer.op.codes.size if isinstance(layer.op, Conv) else 0
            )
        return counts


@cache
def blas_threads() -> ThreadpoolController:
    """Return what sets the threads of NumPy's BLAS."""
    return ThreadpoolController().select(user_api="blas")


def execute(layer: Layer, stored: Mapping[str, tuple[Tensor, np.ndarray]]) -> np.ndarray:
    """Run one layer on stored codes; return codes, or int16 ``y`` when the layer has no encoder."""
    tensor, codes = stored[layer.input]
    if isinstance(layer.op, MaxPool):
        return max_pool(layer.op, codes)
    assert layer.requantize is not None
    levels = tensor.codebook.levels
    acc = accumulate(layer.op, levels.astype(np.float32).take(codes), int(np.abs(levels).max()))
    extra: np.ndarray | int = 0
    if layer.residual is not None:
        skip, skip_codes = stored[layer.residual.tensor]
        term = residual_term(skip.codebook.levels, layer.residual.mult, layer.residual.shift)
        extra = term.take(skip_codes)
    y = requantize(acc, layer.requantize.mult, layer.requantize.bias, layer.requantize.shift, extra)
    return y if layer.encoder is None else layer.encoder(y)


def accumulator_bound(op: Operator, codebook: Codebook) -> int:
    """Return the largest magnitude that any partial sum of an operator can reach, in any order of
    summation."""
    low, high = min(int(codebook.levels[0]), 0), max(int(codebook.levels[-1]), 0)
    if not isinstance(op, Conv):
        return max(-low, high) * op.kernel[0] * op.kernel[1]
    weights = op.levels.astype(np.int64)
    positive = np.maximum(weights * high, weights * low).sum(axis=(1, 2, 3))
    negative = np.minimum(weights * high, weights * low).sum(axis=(1, 2, 3))
    return int(max(positive.max(), -negative.min()))


def validate(network: IntegerNetwork) -> None:
    """Check every range and reference of the contract; raise with the layer and the field."""
    if len(network.layers) == 0:
        raise InputError("network must have at least one layer")
    channels = network.input.shape[2]
    expected = (channels, len(network.input.codebook) - 1)
    if network.encoder.thresholds.shape != expected:
        raise InputError(
            f"input thresholds must have shape {expected}, not {network.encoder.thresholds.shape}"
        )
    if np.isnan(network.encoder.thresholds).any() or np.any(
        np.diff(network.encoder.thresholds, axis=1) < 0
    ):
        raise InputError("input thresholds must be non-decreasing numbers")
    tensors = {network.input.name: network.input}
    names = set()
    for position, layer in enumerate(network.layers):
        if layer.name in names:
            raise InputError(f"layer {layer.name!r}: layer name must be unique")
        names.add(layer.name)
        shape = validate_layer(layer, tensors, last=position == len(network.layers) - 1)
        if layer.output is not None:
            tensors[layer.output.name] = layer.output
        elif int(np.prod(network.output_shape)) != int(np.prod(shape)):
            raise InputError(
                f"output shape {network.output_shape} must hold the {shape} of layer {layer.name!r}"
            )


def validate_layer(layer: Layer, tensors: Mapping[str, Tensor], last: bool) -> tuple[int, int, int]:
    """Check one layer against the tensors stored before it; return its output shape."""
    where = f"layer {layer.name!r}"
    for name in [layer.input] + ([layer.residual.tensor] if layer.residual else []):
        if name not in tensors:
            raise InputError(f"{where} reads tensor {name!r}, which no earlier layer stores")
    source = tensors[layer.input]
    validate_operator(layer.op, where)
    try:
        shape = output_shape(layer.op, source.shape)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if (layer.output is None) != last or (
        layer.encoder is None and not isinstance(layer.op, MaxPool)
    ) != last:
        raise InputError(f"{where}: exactly the last layer must have neither output nor encoder")
    if layer.output is not None:
        if layer.output.shape != shape:
            raise InputError(
                f"{where} gives shape {shape}, but its output tensor has {layer.output.shape}"
            )
        if layer.output.name in tensors:
            raise InputError(f"{where}: tensor name {layer.output.name!r} must be unique")
    if isinstance(layer.op, MaxPool):
        assert layer.output is not None
        if (
            layer.requantize
            or layer.residual
            or layer.encoder
            or layer.output.codebook != source.codebook
        ):
            raise InputError(
                f"{where}: a max-pool must copy codes: no requantization, the same codebook"
            )
        validate_pool_windows(layer.op, source.shape, where)
        return shape
    validate_requantize(layer, shape[2], where)
    if isinstance(layer.op, Conv):
        if not layer.op.codebook.is_weight:
            raise InputError(
                f"{where}: weight levels must fit signed 8 bits, "
                f"not {layer.op.codebook.levels[[0, -1]]}"
            )
        if layer.op.codes.max(initial=0) >= len(layer.op.codebook):
            raise InputError(f"{where}: weight codes must be below {len(layer.op.codebook)}")
        if layer.op.codes.shape[0] % layer.op.groups:
            raise InputError(
                f"{where}: {layer.op.codes.shape[0]} channels must divide in "
                f"{layer.op.groups} groups"
            )
    bound = accumulator_bound(layer.op, source.codebook)
    if bound >= 2 ** (ACC_BITS - 1):
        raise CapacityError(
            f"{where}: accumulator could reach {bound}, beyond {ACC_BITS} bits; "
            "use fewer bits or split it"
        )
    if layer.residual is not None:
        skip = tensors[layer.residual.tensor]
        if skip.shape != shape:
            raise InputError(
                f"{where}: skip tensor {skip.name!r} must have shape {shape}, not {skip.shape}"
            )
        for label, value, low, high in (
            ("mult", layer.residual.mult, 0, MULT_MAX),
            ("shift", layer.residual.shift, *SHIFT_RANGE),
        ):
            if not low <= value <= high:
                raise InputError(
                    f"{where}: residual {label} must lie in {low}..{high}, not {value}"
                )
    return shape


def validate_operator(op: Operator, where: str) -> None:
    """Check an operator's geometry and, of a convolution, the type of its codes."""
    if isinstance(op, Conv):
        if op.codes.dtype != np.uint8 or op.codes.ndim != 4 or op.codes.size == 0:
            raise InputError(
                f"{where}: weight codes must be uint8 of shape (n, c, kh, kw), "
                f"not {op.codes.dtype} of shape {op.codes.shape}"
            )
        if op.groups < 1:
            raise InputError(f"{where}: groups must be at least 1, not {op.groups}")
    if isinstance(op, Select) and op.channels < 1:
        raise InputError(f"{where}: channels must be at least 1, not {op.channels}")
    for label, values, count, least in (
        ("kernel", op.kernel, 2, 1),
        ("stride", op.stride, 2, 1),
        ("dilation", op.dilation, 2, 1),
        ("padding", op.padding, 4, 0),
    ):
        if len(values) != count or min(values) < least:
            raise InputError(
                f"{where}: {label} must be {count} numbers of at least {least}, not {values}"
            )


def validate_pool_windows(op: MaxPool, shape: tuple[int, int, int], where: str) -> None:
    """Refuse a max-pool in which some window holds nothing but padding."""
    out = output_shape(op, shape)
    for axis, (before, _) in enumerate((op.padding[:2], op.padding[2:])):
        starts = np.arange(out[axis]) * op.stride[axis] - before
        taps = starts[:, None] + np.arange(op.kernel[axis]) * op.dilation[axis]
        if not ((taps >= 0) & (taps < shape[axis])).any(axis=1).all():
            raise InputError(
                f"{where}: every max-pool window must hold a real tap; reduce its padding"
            )


def validate_requantize(layer: Layer, channels: int, where: str) -> None:
    """Check the integer ranges of a layer's requantization and encoder."""
    tail = layer.requantize
    if tail is None:
        raise InputError(f"{where} must have a requantization")
    limit = 2 ** (BIAS_BITS - 1)
    for label, values, low, high in (
        ("mult", tail.mult, 0, MULT_MAX),
        ("shift", tail.shift, *SHIFT_RANGE),
        ("bias", tail.bias, -limit, limit - 1),
    ):
        if values.shape != (channels,):
            raise InputError(f"{where}: {label} must have shape ({channels},), not {values.shape}")
        validate_integers(values, f"{where}: {label}")
        if values.min() < low or values.max() > high:
            raise InputError(
                f"{where}: {label} must lie in {low}..{high}, not {values.min()}..{values.max()}"
            )
    if layer.encoder is not None:
        assert layer.output is not None
        thresholds, codes = layer.encoder.thresholds, layer.encoder.codes
        most = 2 ** (layer.output.codebook.bits + 1) - 1
        validate_integers(thresholds, f"{where}: encoder thresholds")
        validate_integers(codes, f"{where}: encoder codes")
        if len(codes) != len(thresholds) + 1 or len(thresholds) > most:
            raise InputError(
                f"{where}: encoder must have at most {most} thresholds and one code more"
            )
        if np.any(np.diff(thresholds.astype(np.int64)) < 0):
            raise InputError(f"{where}: encoder thresholds must be non-decreasing")
        low, high = Y_RANGE
        if len(thresholds) and not (low <= thresholds[0] and thresholds[-1] <= high):
            raise InputError(
                f"{where}: encoder thresholds must lie in {low}..{high}, "
                f"not {thresholds[0]}..{thresholds[-1]}"
            )
        if codes.min() < 0:
            raise InputError(f"{where}: encoder codes must be at least 0, not {codes.min()}")
        if codes.max() >= len(layer.output.codebook):
            raise InputError(f"{where}: encoder codes must be below {len(layer.output.codebook)}")


def validate_integers(values: np.ndarray, label: str) -> None:
    """Refuse an array that is no vector of integers."""
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise InputError(
            f"{label} must be a vector of integers, not {values.ndim}-d {values.dtype}"
        )
