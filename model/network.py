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
from nupes.model.host import has_channels_last
from nupes.model.inputs import Input, InputEncoder, check_codes, check_count, one_batch
from nupes.model.layer import Layer, Operands
from nupes.model.masks import Mask, find_masks
from nupes.model.stored import CodeMap
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
        return tuple(find_masks(self.layers, given, self.bounds, self.held_levels))

    @property
    def held_levels(self) -> dict[str, np.ndarray]:
        """The levels (h, w, c) of the constants by name."""
        return {item.tensor.name: item.tensor.levels(item.codes) for item in self.constants}

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
        """Return the codes (b, h, w, c) uint8 of every input for real images (b, c, h, w)."""
        own = [item for item in self.inputs if item.source is None]
        check_count(images, len(own))
        arrays = {item.tensor.name: x for item, x in zip(own, images, strict=True)}
        codes = [item.encode(arrays[item.source or item.tensor.name]) for item in self.inputs]
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

    def _check_codes(self, codes: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return the codes of all inputs as uint8, or refuse them."""
        check_count(codes, len(self.inputs))
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
