"""The integer network: a graph of layers over stored tensors, and its exact execution.

``IntegerNetwork`` is callable (float arrays in, float arrays out); between the host's encoding of
the inputs and the scale of the outputs there are only integers.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from nupes.model import summary
from nupes.model.artifact.writer import write_network
from nupes.model.errors import InputError, UnsupportedError
from nupes.model.host import as_maps, has_channels_last, host_shapes
from nupes.model.layer import Layer, Operands
from nupes.model.masks import Mask, find_masks
from nupes.model.stored import CodeMap, CodeMatrix, Float64Matrix
from nupes.model.tensor import Shape, Tensor
from nupes.model.threads import single_threaded_blas
from nupes.model.validation import validate

__all__ = [
    "Constant",
    "Input",
    "InputEncoder",
    "IntegerNetwork",
    "Output",
    "State",
    "one_or_all",
]

CHUNK_PIXELS = 1 << 13
"""Input pixels that run at a time on one core: keeps patches in its cache, changes no value."""

Stored = dict[str, np.ndarray]
"""Maps (b, h, w, c) by the names of tensors."""

NOTHING: Mapping[str, np.ndarray] = MappingProxyType({})
"""No tensors."""


@dataclass(frozen=True, eq=False)
class InputEncoder:
    """The host's encoder: ``thresholds`` (c, K - 1) float64, code = ``#{k : x >=
    thresholds[channel, k]}``."""

    thresholds: Float64Matrix

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return codes (b, h, w, c) uint8 for real images (b, c, h, w)."""
        columns = [
            np.searchsorted(row, images[:, channel].astype(np.float64), side="right")
            for channel, row in enumerate(self.thresholds)
        ]
        return np.stack(columns, axis=3).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Input:
    """A tensor that the host gives, and how it codes real values; of a sequence of tokens (t, 1, c)
    that are rows of a table, ``lookup`` (entries, c) uint8 holds their codes."""

    tensor: Tensor
    encoder: InputEncoder
    lookup: CodeMatrix | None = None

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return the codes (b, h, w, c) uint8 of real images (b, c, h, w), or as the host has them
        (``model.host``), or of ids (b, t) in the table; they are checked."""
        images = np.asarray(images)
        height, width, channels = self.tensor.shape
        if self.lookup is not None and images.ndim == 2:
            return self.look_up(images)
        if images.ndim < 2 or images.shape[1:] not in host_shapes(self.tensor.shape):
            raise InputError(
                f"images must have shape (batch, {channels}, {height}, {width}), not {images.shape}"
            )
        if images.dtype.kind not in ("fiub" if images.ndim == 2 else "fiu"):
            raise InputError(f"images must be real numbers, not {images.dtype}")
        if np.isnan(images).any():
            raise InputError(
                f"images must not contain NaN; image {np.argwhere(np.isnan(images))[0][0]} does"
            )
        return self.encoder(as_maps(images, self.tensor.shape))

    def look_up(self, ids: np.ndarray) -> np.ndarray:
        """Return the codes (b, t, 1, c) of ids (b, t)."""
        assert self.lookup is not None
        tokens, entries = self.tensor.shape[0], len(self.lookup)
        if ids.shape[1] != tokens or ids.dtype.kind not in "iu":
            raise InputError(
                f"ids must be integers of shape (batch, {tokens}), not {ids.dtype} of {ids.shape}"
            )
        if ids.size and (ids.min() < 0 or ids.max() >= entries):
            raise InputError(
                f"ids must lie in 0..{entries - 1}, the table of input {self.tensor.name!r}, not "
                f"{ids.min()}..{ids.max()}"
            )
        return self.lookup[ids][:, :, np.newaxis]

    def check_codes(self, codes: np.ndarray) -> np.ndarray:
        """Return codes (b, h, w, c) as uint8, or refuse them."""
        return check_codes(self.tensor, codes, "codes")


def check_codes(tensor: Tensor, codes: np.ndarray, what: str) -> np.ndarray:
    """Return codes (b, h, w, c) of a tensor as uint8; refuse another shape, type or range."""
    codes = np.asarray(codes)
    if codes.ndim != 4 or codes.shape[1:] != tensor.shape:
        height, width, channels = tensor.shape
        raise InputError(
            f"{what} must have shape (batch, {height}, {width}, {channels}), not {codes.shape}"
        )
    if codes.dtype.kind not in "iu":
        raise InputError(f"{what} must be integers, not {codes.dtype}")
    last = len(tensor.codebook) - 1
    if codes.size and (codes.min() < 0 or codes.max() > last):
        raise InputError(
            f"{what} must lie in the codebook's 0..{last}, not {codes.min()}..{codes.max()}"
        )
    return codes.astype(np.uint8, copy=False)


def one_batch(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return the codes of all inputs; refuse those of several batch sizes."""
    sizes = [len(part) for part in parts]
    if len(set(sizes)) > 1:
        raise InputError(f"inputs must have one batch size, not {sizes}")
    return tuple(parts)


@dataclass(frozen=True)
class Output:
    """A wide tensor that the host reads; ``shape`` is that of one result as the float module gave
    it: (n,), (n, h, w), (n, h * w), or with channels last (h, w, n), (h * w, n)."""

    tensor: str
    shape: tuple[int, ...]

    def arrange(self, y: np.ndarray) -> np.ndarray:
        """Return ``y`` (b, h, w, n) as (b, *shape)."""
        _, height, width, channels = y.shape
        last = has_channels_last(self.shape, (height, width, channels))
        return (y if last else y.transpose(0, 3, 1, 2)).reshape(len(y), *self.shape)


def one_or_all(results: tuple[np.ndarray, ...]) -> Any:
    """Return the result of the only output, or those of several as a tuple."""
    return results[0] if len(results) == 1 else results


@dataclass(frozen=True, eq=False)
class State:
    """A tensor that a run leaves for the next one: ``tensor`` begins as ``initial`` (h, w, c) uint8
    and is what ``written`` was at the end of the run before."""

    tensor: Tensor
    written: str
    initial: CodeMap


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor whose ``codes`` (h, w, c) uint8 the network itself holds, the same in every run."""

    tensor: Tensor
    codes: CodeMap


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """An integer network; ``layers`` are in execution order.

    ``metadata`` is free JSON data for people (scheme, per-layer report); no arithmetic reads it.
    ``bounds`` are the largest magnitudes of the layers' accumulators, by name.
    """

    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[Output, ...]
    state: tuple[State, ...] = ()
    constants: tuple[Constant, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    bounds: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", validate(self))

    def __repr__(self) -> str:
        return summary.network_line(self)

    def _repr_html_(self) -> str:
        """Return the layers as a notebook shows them."""
        return summary.network_html(self)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, in the order in which they come to be."""
        found = [item.tensor for item in (*self.inputs, *self.constants, *self.state)]
        return {t.name: t for t in (*found, *(layer.output for layer in self.layers))}

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all tensors and layers."""
        return frozenset(self.tensors) | {layer.name for layer in self.layers}

    @property
    def stored(self) -> dict[str, Tensor]:
        """The tensors that layers may read: all but those that the host reads."""
        return {n: tensor for n, tensor in self.tensors.items() if n not in self.emitted}

    @cached_property
    def emitted(self) -> frozenset[str]:
        """The names of the tensors that the host reads."""
        return frozenset(output.tensor for output in self.outputs)

    @property
    def the_input(self) -> Input:
        """The only input; raise ``UnsupportedError`` if there are several, for what takes one."""
        if len(self.inputs) != 1:
            raise UnsupportedError(f"network must have one input here, not {len(self.inputs)}")
        return self.inputs[0]

    @property
    def the_output(self) -> Output:
        """The only output; raise ``UnsupportedError`` if there are several, for what takes one."""
        if len(self.outputs) != 1:
            raise UnsupportedError(f"network must have one output here, not {len(self.outputs)}")
        return self.outputs[0]

    def input_shapes(self, layer: Layer) -> tuple[Shape, ...]:
        """Return the (h, w, c) of what a layer's operator reads."""
        tensors = self.tensors
        return tuple(port.shape(tensors[port.tensor].shape) for port in layer.inputs)

    @cached_property
    def macs(self) -> dict[str, int]:
        """Multiply-accumulates of each layer for one image."""
        return {layer.name: layer.op.macs(*self.input_shapes(layer)) for layer in self.layers}

    @cached_property
    def input_masks(self) -> tuple[Mask, ...]:
        """The inputs that mask scores: which keys an image has."""
        given = {item.tensor.name: item.tensor for item in self.inputs}
        return tuple(find_masks(self.layers, given, self.bounds))

    def __call__(self, *images: np.ndarray) -> Any:
        """Return float64 results (b, *output shape) for real images (b, c, h, w), one array for
        each input; several outputs are a tuple. Raise ``InputError`` on bad input."""
        results = self.scale(self.run_all(*self.encode_all(*images)))
        return one_or_all(results)

    def scale(self, results: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return every output's real numbers, float64, from its ``y``."""
        tensors = self.tensors
        return tuple(
            y.astype(np.float64) * tensors[output.tensor].scale
            for output, y in zip(self.outputs, results, strict=True)
        )

    def encode_all(self, *images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the codes (b, h, w, c) uint8 of real images (b, c, h, w) for every input."""
        self._check_count(images)
        codes = [item.encode(x) for item, x in zip(self.inputs, images, strict=True)]
        return self._check_masks(one_batch(codes))

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return the codes (b, h, w, c) uint8 of real images (b, c, h, w) for the only input."""
        return self.the_input.encode(images)

    def run(self, *codes: np.ndarray) -> np.ndarray:
        """Return the only output's int16 ``y`` (b, *output shape) for input codes (b, h, w, c)."""
        index = self.outputs.index(self.the_output)
        return self.run_all(*codes)[index]

    def run_all(self, *codes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return every output's int16 ``y`` (b, *output shape) for input codes (b, h, w, c), state
        as it begins."""
        return self._in_chunks(self._run_chunk, self._check_codes(codes))

    def advance(
        self, state: Mapping[str, np.ndarray], *codes: np.ndarray
    ) -> tuple[tuple[np.ndarray, ...], Stored]:
        """Return every output's ``y``, and the state (b, h, w, c) by tensor that the next run
        begins with; an empty ``state`` is that of the first run."""
        checked = self._check_codes(codes)
        stored = self._execute(checked, self._check_state(state, len(checked[0])))
        outputs = tuple(output.arrange(stored[output.tensor]) for output in self.outputs)
        return outputs, {item.tensor.name: stored[item.written] for item in self.state}

    def trace(self, *codes: np.ndarray) -> Iterator[tuple[Layer, np.ndarray]]:
        """Yield each layer with what it stores: codes or ``y`` (b, h, w, n)."""
        stored = self.begin(*self._check_codes(codes))
        for layer in self.layers:
            yield layer, self._step(layer, stored)

    def begin(self, *codes: np.ndarray, state: Mapping[str, np.ndarray] = NOTHING) -> Stored:
        """Return the tensors that are there before any layer, for input codes (b, h, w, c): inputs,
        constants, and the state, which is that of the first run where none is given."""
        stored = {item.tensor.name: part for item, part in zip(self.inputs, codes, strict=True)}
        for item in self.constants:
            every = np.broadcast_to(item.codes, (len(codes[0]), *item.tensor.shape))
            stored[item.tensor.name] = every
        for item in self.state:
            start = np.broadcast_to(item.initial, (len(codes[0]), *item.tensor.shape))
            stored[item.tensor.name] = state.get(item.tensor.name, start)
        return stored

    def operands(self, layer: Layer, stored: Mapping[str, np.ndarray]) -> Operands:
        """Return what a layer reads of maps (b, h, w, c) by the names of their tensors."""
        tensors = self.tensors
        return [(tensors[p.tensor], p.select(stored[p.tensor])) for p in layer.reads]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the network to one safetensors file, in one step; return its path."""
        return write_network(self, path)

    def _check_count(self, arrays: Sequence[Any]) -> None:
        if len(arrays) != len(self.inputs):
            raise InputError(f"network must get {len(self.inputs)} inputs, not {len(arrays)}")

    def _check_codes(self, codes: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return the codes of all inputs as uint8, or refuse them."""
        self._check_count(codes)
        checked = [item.check_codes(c) for item, c in zip(self.inputs, codes, strict=True)]
        return self._check_masks(one_batch(checked))

    def _check_masks(self, codes: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Return the codes of all inputs; refuse those that mask every key of a query."""
        names = [item.tensor.name for item in self.inputs]
        for mask in self.input_masks:
            name = mask.port.tensor
            without = mask.without_keys(codes[names.index(name)])
            if without.any():
                raise InputError(
                    f"input {name!r}: a mask must leave every query a key, not none in sample "
                    f"{without.argmax()}"
                )
        return codes

    def _check_state(self, state: Mapping[str, np.ndarray], batch: int) -> Stored:
        """Return the state of a run of ``batch`` images, its beginning if none is given."""
        tensors = {item.tensor.name: item.tensor for item in self.state}
        if not state:
            return {}
        if state.keys() != tensors.keys():
            raise InputError(f"state must have the tensors {list(tensors)}, not {list(state)}")
        checked = {n: check_codes(tensors[n], codes, f"state {n!r}") for n, codes in state.items()}
        if any(len(codes) != batch for codes in checked.values()):
            raise InputError(f"state must be that of {batch} images")
        return checked

    def _in_chunks(
        self, work: Callable[..., tuple[np.ndarray, ...]], batch: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, ...]:
        """Return ``work`` of a batch, computed in parts that fit the caches, one on each core."""
        height, width, _ = self.inputs[0].tensor.shape
        step = max(1, CHUNK_PIXELS // (height * width))
        chunks = [[part[i : i + step] for part in batch] for i in range(0, len(batch[0]), step)]
        if not chunks:
            return tuple(np.zeros((0, *output.shape), np.int16) for output in self.outputs)
        with single_threaded_blas():
            if len(chunks) == 1:
                return work(*chunks[0])
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                parts = list(pool.map(lambda chunk: work(*chunk), chunks))
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    def _run_chunk(self, *codes: np.ndarray) -> tuple[np.ndarray, ...]:
        stored = self._execute(codes, {})
        return tuple(output.arrange(stored[output.tensor]) for output in self.outputs)

    def _execute(self, codes: Sequence[np.ndarray], state: Stored) -> Stored:
        stored = self.begin(*codes, state=state)
        for layer in self.layers:
            self._step(layer, stored)
        return stored

    def _step(self, layer: Layer, stored: Stored) -> np.ndarray:
        result = layer.run(self.operands(layer, stored), self.bounds.get(layer.name, 0))
        stored[layer.output.name] = result
        return result
