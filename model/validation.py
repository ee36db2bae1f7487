"""What must hold of an integer network: every range and reference of the contract, checked once."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nupes.model.arithmetic import ACC_BITS, BIAS_BITS, MULT_MAX, SHIFT_RANGE, Y_RANGE
from nupes.model.errors import CapacityError, InputError
from nupes.model.layer import Encoder, Layer, Post, Residual, ShiftEncoder
from nupes.model.masks import find_masks
from nupes.model.operators.operator import is_integer
from nupes.model.positions import Positions
from nupes.model.tensor import Coded, Port, Shape, Tensor, Wide

if TYPE_CHECKING:
    from nupes.model.network import Input, IntegerNetwork

__all__ = ["validate"]

ENCODER_SHIFT = (1, 15)
"""The shifts of encoders without a table."""

MOST_CODES = 2**31 - 1
"""The largest size of a tensor, for one image."""


def validate(network: "IntegerNetwork") -> dict[str, int]:
    """Check a network; return the largest magnitude of each layer's accumulator by name.

    Raise ``InputError`` with the layer and the field, ``CapacityError`` for an accumulator that
    could overflow.
    """
    if len(network.inputs) == 0:
        raise InputError("network must have at least one input")
    if len(network.layers) == 0:
        raise InputError("network must have at least one layer")
    if len(network.outputs) == 0:
        raise InputError("network must have at least one output")
    tensors: dict[str, Tensor] = {}
    for item in network.inputs:
        validate_input(item)
        add_tensor(item.tensor, tensors, f"input {item.tensor.name!r}")
    validate_sources(network.inputs)
    for item in network.constants:
        where = f"constant {item.tensor.name!r}"
        add_tensor(item.tensor, tensors, where)
        validate_codes(item.tensor, item.codes, where)
    for item in network.state:
        add_tensor(item.tensor, tensors, f"state {item.tensor.name!r}")
    bounds: dict[str, int] = {}
    names: set[str] = set()
    for layer in network.layers:
        where = f"layer {layer.name!r}"
        if layer.name in names:
            raise InputError(f"{where}: layer name must be unique")
        names.add(layer.name)
        bound = validate_layer(layer, tensors, where)
        if bound is not None:
            bounds[layer.name] = bound
        add_tensor(layer.output, tensors, where)
    validate_ends(network, tensors)
    validate_masks(network, bounds)
    return bounds


def add_tensor(tensor: Tensor, tensors: dict[str, Tensor], where: str) -> None:
    """Check a tensor and register it."""
    if tensor.name in tensors:
        raise InputError(f"{where}: tensor name {tensor.name!r} must be unique")
    if len(tensor.shape) != 3 or not all(is_integer(size) and size > 0 for size in tensor.shape):
        raise InputError(
            f"{where}: shape of tensor {tensor.name!r} must be three positive sizes, not "
            f"{tensor.shape}"
        )
    if prod(tensor.shape) > MOST_CODES:
        raise InputError(
            f"{where}: tensor {tensor.name!r} must have at most {MOST_CODES} numbers, not shape "
            f"{tensor.shape}"
        )
    validate_scale(tensor.scale, f"{where}: scale of tensor {tensor.name!r}")
    tensors[tensor.name] = tensor


def validate_scale(scale: Any, label: str) -> None:
    """Refuse a scale that is no positive number."""
    number = isinstance(scale, int | float | np.floating) and not isinstance(scale, bool)
    if not number or not 0 < scale < np.inf:
        raise InputError(f"{label} must be a positive number, not {scale!r}")


def validate_input(item: "Input") -> None:
    """Check an input's thresholds."""
    where = f"input {item.tensor.name!r}"
    if not isinstance(item.tensor.format, Coded):
        raise InputError(f"{where} must be coded, not wide")
    thresholds = item.encoder.thresholds
    expected = (item.tensor.shape[2], len(item.tensor.codebook) - 1)
    if thresholds.shape != expected:
        raise InputError(f"input thresholds must have shape {expected}, not {thresholds.shape}")
    if thresholds.dtype != np.float64:
        raise InputError(f"input thresholds must be float64, not {thresholds.dtype}")
    if np.isnan(thresholds).any() or np.any(np.diff(thresholds, axis=1) < 0):
        raise InputError("input thresholds must be non-decreasing numbers")
    if item.lookup is not None:
        validate_lookup(item, item.lookup, where)
    if item.positions is not None:
        validate_positions(item, item.positions, where)


def validate_sources(inputs: Sequence["Input"]) -> None:
    """Refuse an input that shares the array of another one that has none of its own, or of which an
    array that fits one does not fit the other."""
    before: dict[str, Input] = {}
    for item in inputs:
        where = f"input {item.tensor.name!r}"
        if item.source is None:
            before[item.tensor.name] = item
            continue
        if item.source not in before:
            raise InputError(
                f"{where}: source must be an input before it with an array of its own, not "
                f"{item.source!r}"
            )
        sizes = [host_sizes(item) for item in (item, before[item.source])]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"{where}: what shares an array must have as many tokens, not {sizes[0]} and "
                f"{sizes[1]}"
            )


def host_sizes(item: "Input") -> int:
    """Return how many numbers of a flat array (b, t) an input takes: ids or one for each channel
    of a pixel."""
    height, width, channels = item.tensor.shape
    return item.tokens if item.lookup is not None else height * width * channels


def validate_positions(item: "Input", positions: Positions, where: str) -> None:
    """Check how the rows of a table are found."""
    if item.lookup is None:
        raise InputError(f"{where}: positions must be rows of a table, not of none")
    numbers = (positions.padding, positions.first, positions.filler)
    if not all(is_integer(number) for number in numbers):
        raise InputError(f"{where}: positions must be integers, not {numbers}")
    largest, rows = positions.largest(item.tokens), len(item.lookup)
    if min(numbers[1:]) < 0 or largest >= rows:
        raise InputError(
            f"{where}: positions must lie in 0..{rows - 1}, the rows of their table, not "
            f"{min(numbers[1:])}..{largest}"
        )


def validate_lookup(item: "Input", lookup: np.ndarray, where: str) -> None:
    """Check the table of an input's ids."""
    _, width, channels = item.tensor.shape
    if not isinstance(lookup, np.ndarray):
        raise InputError(f"{where}: lookup must be an array, not {type(lookup).__name__}")
    channels = 1 if item.of_one_pixel else channels
    if width != 1 or lookup.ndim != 2 or len(lookup) == 0 or lookup.shape[1] != channels:
        raise InputError(
            f"{where}: lookup must have a row of {channels} codes for each id, for a map of one "
            f"column, not shape {lookup.shape} for {width}"
        )
    last = len(item.tensor.codebook) - 1
    if lookup.dtype != np.uint8 or lookup.max() > last:
        raise InputError(
            f"{where}: lookup must hold codes 0..{last} as uint8, not {lookup.dtype} up to "
            f"{lookup.max()}"
        )


def validate_layer(layer: Layer, tensors: Mapping[str, Tensor], where: str) -> int | None:
    """Check one layer against the tensors that come before it; return its accumulator's bound,
    ``None`` where it copies codes."""
    for port in layer.reads:
        validate_port(port, tensors, where)
    op, count = layer.op, len(layer.inputs)
    most = count if op.most_inputs is None else op.most_inputs
    if not op.least_inputs <= count <= most:
        raise InputError(f"{where}: {op.kind} must not read {count} tensors")
    sources = [tensors[port.tensor] for port in layer.inputs]
    for source in sources:
        if isinstance(source.format, Wide) and not op.reads_wide:
            raise InputError(f"{where}: {op.kind} must read coded tensors, {source.name!r} is wide")
    try:
        op.check()
        shape = op.shape(*(port.shape(tensors[port.tensor].shape) for port in layer.inputs))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if layer.output.shape != shape:
        raise InputError(
            f"{where} gives shape {shape}, but its output tensor has {layer.output.shape}"
        )
    if op.copies:
        validate_copy(layer, sources, where)
        return None
    if layer.post is None:
        raise InputError(f"{where} must have a requantization")
    validate_post(layer.post, layer.output, shape, where)
    try:
        bound = op.bound(*(source.format.ends for source in sources))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if bound >= 2 ** (ACC_BITS - 1):
        raise CapacityError(
            f"{where}: accumulator could reach {bound}, beyond {ACC_BITS} bits; "
            "use fewer bits or split it"
        )
    if layer.post.residual is not None:
        validate_residual(layer.post.residual, tensors, shape, where)
    return bound


def validate_port(port: Port, tensors: Mapping[str, Tensor], where: str) -> None:
    """Check that a port lies in a tensor that comes before."""
    if port.tensor not in tensors:
        raise InputError(f"{where} reads tensor {port.tensor!r}, which no earlier layer stores")
    height, _, channels = tensors[port.tensor].shape
    for what, size, first, count in (
        ("channels", channels, port.first, port.channels),
        ("rows", height, port.first_row, port.rows),
    ):
        last = size if count is None else first + count
        numbers = is_integer(first) and (count is None or is_integer(count))
        if not numbers or not 0 <= first < last <= size:
            raise InputError(
                f"{where}: {what} read of tensor {port.tensor!r} must lie in its {size}, not "
                f"{first}..{last}"
            )


def validate_copy(layer: Layer, sources: list[Tensor], where: str) -> None:
    """Check that codes are copied between tensors of one codebook and scale."""
    if layer.post is not None or isinstance(layer.output.format, Wide):
        raise InputError(f"{where}: a {layer.op.kind} must copy codes, without requantization")
    for source in sources:
        same = source.codebook == layer.output.codebook and source.scale == layer.output.scale
        if not same:
            raise InputError(
                f"{where}: a {layer.op.kind} copies codes, so tensor {source.name!r} and its "
                "output must have one codebook and one scale"
            )


def validate_residual(
    residual: Residual, tensors: Mapping[str, Tensor], shape: Shape, where: str
) -> None:
    """Check the skip tensor's shape and its integers."""
    skip = residual.port.shape(tensors[residual.port.tensor].shape)
    if skip not in (shape, (1, 1, shape[2])):
        raise InputError(
            f"{where}: skip tensor {residual.port.tensor!r} must have shape {shape}, or one pixel "
            f"for all, not {skip}"
        )
    for label, value, low, high in (
        ("mult", residual.mult, 0, MULT_MAX),
        ("shift", residual.shift, *SHIFT_RANGE),
    ):
        if not is_integer(value) or not low <= value <= high:
            raise InputError(
                f"{where}: residual {label} must be an integer in {low}..{high}, not {value}"
            )


def validate_post(post: Post, output: Tensor, shape: Shape, where: str) -> None:
    """Check the integer ranges of a layer's requantization and encoder."""
    limit = 2 ** (BIAS_BITS - 1)
    for label, values, low, high in (
        ("mult", post.requantize.mult, -MULT_MAX, MULT_MAX),
        ("shift", post.requantize.shift, *SHIFT_RANGE),
        ("bias", post.requantize.bias, -limit, limit - 1),
    ):
        if values.shape != (shape[2],):
            raise InputError(f"{where}: {label} must have shape ({shape[2]},), not {values.shape}")
        validate_integers(values, f"{where}: {label}")
        if values.min() < low or values.max() > high:
            raise InputError(
                f"{where}: {label} must lie in {low}..{high}, not {values.min()}..{values.max()}"
            )
    if (post.encoder is None) != isinstance(output.format, Wide):
        raise InputError(f"{where}: its output must be wide exactly if it has no encoder")
    if isinstance(post.encoder, ShiftEncoder):
        validate_shift(post.encoder, output, where)
    elif post.encoder is not None:
        validate_encoder(post.encoder, output, where)


def validate_shift(encoder: ShiftEncoder, output: Tensor, where: str) -> None:
    """Check the shift of an encoder, and that it has the levels for it."""
    low, high = ENCODER_SHIFT
    if not is_integer(encoder.shift) or not low <= encoder.shift <= high:
        raise InputError(
            f"{where}: encoder shift must be an integer in {low}..{high}, not {encoder.shift}"
        )
    if np.any(np.diff(output.codebook.levels) != 1):
        raise InputError(
            f"{where}: levels of a shift encoder must be consecutive integers, not "
            f"{output.codebook.levels.tolist()}"
        )


def validate_encoder(encoder: Encoder, output: Tensor, where: str) -> None:
    """Check the thresholds and codes of an encoder."""
    thresholds, codes = encoder.thresholds, encoder.codes
    most = 2 ** (output.codebook.bits + 1) - 1
    validate_integers(thresholds, f"{where}: encoder thresholds")
    validate_integers(codes, f"{where}: encoder codes")
    if len(codes) != len(thresholds) + 1 or len(thresholds) > most:
        raise InputError(f"{where}: encoder must have at most {most} thresholds and one code more")
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
    if codes.max() >= len(output.codebook):
        raise InputError(f"{where}: encoder codes must be below {len(output.codebook)}")


def validate_integers(values: np.ndarray, label: str) -> None:
    """Refuse an array that is no vector of integers."""
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise InputError(
            f"{label} must be a vector of integers, not {values.ndim}-d {values.dtype}"
        )


def validate_ends(network: "IntegerNetwork", tensors: Mapping[str, Tensor]) -> None:
    """Check what leaves a network: its outputs, and the state for the next run."""
    for output in network.outputs:
        where = f"output {output.tensor!r}"
        if output.tensor not in tensors or not isinstance(tensors[output.tensor].format, Wide):
            raise InputError(f"{where} must be a wide tensor that a layer stores")
        shape = tensors[output.tensor].shape
        sizes = all(is_integer(size) and size > 0 for size in output.shape)
        if not sizes or prod(output.shape) != prod(shape):
            raise InputError(f"{where}: shape {output.shape} must hold the {shape} of its tensor")
    if len({output.tensor for output in network.outputs}) < len(network.outputs):
        raise InputError("outputs must be different tensors")
    for state in network.state:
        where = f"state {state.tensor.name!r}"
        written = tensors.get(state.written)
        if written is None or (written.shape, written.format) != (
            state.tensor.shape,
            state.tensor.format,
        ):
            raise InputError(
                f"{where}: tensor {state.written!r} that it is written as must exist and have its "
                "shape, codebook and scale"
            )
        validate_codes(state.tensor, state.initial, where)


def validate_masks(network: "IntegerNetwork", bounds: Mapping[str, int]) -> None:
    """Refuse a constant that masks every key of a query."""
    held = {item.tensor.name: item for item in network.constants}
    tensors = {name: item.tensor for name, item in held.items()}
    for mask in find_masks(network.layers, tensors, bounds, network.held_levels):
        name = mask.port.tensor
        if mask.without_keys(held[name].codes[None]).any():
            raise InputError(f"constant {name!r}: a mask must leave every query a key, not none")


def validate_codes(tensor: Tensor, codes: np.ndarray, where: str) -> None:
    """Refuse what are no codes of a tensor."""
    last = len(tensor.codebook) - 1
    if codes.shape != tensor.shape or codes.dtype != np.uint8 or codes.max() > last:
        raise InputError(f"{where}: its codes must be uint8 of shape {tensor.shape} in 0..{last}")
