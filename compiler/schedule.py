"""The schedule: every LOAD, TILE and POOL of a network in program order, with counted dependencies.

A ``Step`` knows all that timing needs; payloads are made later, so that sweeping array shapes
builds no images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nupes.compiler.layout import (
    InputLayout,
    PatchLayout,
    TensorLayout,
    patch_input,
    plain_input,
    zero_digits,
)
from nupes.compiler.memory import Request, allocate
from nupes.compiler.slots import Slots
from nupes.compiler.tiles import (
    Matrix,
    WeightTile,
    conv_matrix,
    identity_matrix,
    partial_sum_bound,
    patch_matrix,
)
from nupes.model.errors import CapacityError
from nupes.model.network import Encoder, IntegerNetwork, Layer, Tensor
from nupes.model.operators import AveragePool, Conv, MaxPool, Operator, output_shape
from nupes.model.planes import Planes, split_planes
from nupes.rtl.config import ArrayConfig, clog2
from nupes.rtl.isa import (
    DESCRIPTOR,
    DESCRIPTOR_SLOTS,
    DESCRIPTOR_WORDS,
    ENCODER_SLOTS,
    LAG_FREE,
    Destination,
    Opcode,
    pack,
)

__all__ = ["ResultTile", "Schedule", "Step", "schedule"]

ADDRESS_MASK = (1 << 20) - 1


@dataclass(slots=True)
class Step:
    """One instruction: its fields, how many payload words it has, and what timing needs to know of
    its stream.

    ``payload`` gives the payload as uint64 (words, port words); None is a hole that the host fills,
    whose first input word is ``hole``. ``per_pixel`` words are streamed for each of ``count``
    pixels; ``pace`` and ``writes`` are those of its last words. ``chase`` is the first address of a
    stream that follows the input's transfer (-1: it does not).
    """

    fields: dict[str, int]
    words: int
    payload: Callable[[], np.ndarray] | None
    hole: int = -1
    count: int = 0
    per_pixel: int = 1
    pace: int = 1
    writes: int = 0
    to_host: bool = False
    chase: int = -1


@dataclass(frozen=True, slots=True)
class ResultTile:
    """Which results one block of the last layer emits: channels from ``channel`` on, pixels
    ``first`` on.
    """

    channel: int
    first: int
    count: int


@dataclass(eq=False)
class Schedule:
    """All steps of a network, what the host does at both ends, and where each layer's first tile
    is.
    """

    steps: list[Step] = field(default_factory=list)
    results: list[ResultTile] = field(default_factory=list)
    input: InputLayout | None = None
    act_words: int = 0


def schedule(network: IntegerNetwork, config: ArrayConfig) -> Schedule:
    """Return the schedule of a network on an array; raise ``CapacityError`` or ``UnsupportedError``
    by layer name.
    """
    return Scheduler(network, config).run()


def words_of(shape: tuple[int, int, int], planes: int, config: ArrayConfig) -> int:
    """Return the activation memory words of a tensor."""
    return shape[0] * shape[1] * planes * -(-shape[2] // config.lanes)


class Scheduler:
    """Walks the layers in order and emits their steps."""

    def __init__(self, network: IntegerNetwork, config: ArrayConfig) -> None:
        self.network = network
        self.config = config
        self.out = Schedule()
        self.planes = {
            name: split_planes(tensor.codebook, config.code_bits)
            for name, tensor in network.tensors.items()
        }
        self.tiles = 0
        self.slots = {
            Destination.WEIGHT_TABLE: Slots(config.table_slots),
            Destination.ACTIVATION_TABLE: Slots(config.table_slots),
            Destination.RESIDUAL_TABLE: Slots(config.table_slots),
            Destination.SCALE: Slots(config.param_slots),
            Destination.THRESHOLD: Slots(ENCODER_SLOTS),
            Destination.DESCRIPTOR: Slots(DESCRIPTOR_SLOTS),
        }
        self.pending: list[Step] = []
        self.using: list[tuple[Slots, int]] = []
        self.marked = False
        self.patches = self.choose_patches()
        self.layouts: dict[str, TensorLayout] = {}
        self.patch_layout: PatchLayout | None = None
        self.place_tensors()
        self.writer = np.full(config.act_depth, -1, np.int64)
        self.loaded = 0

    # Placement

    def choose_patches(self) -> Layer | None:
        """Return the convolution whose input the host packs as patches, or None if the input stays
        a map.

        Packing pays when it needs fewer passes; it needs a single reader with one group, and a zero
        for padding taps.
        """
        name, config = self.network.input.name, self.config
        readers = [
            layer
            for layer in self.network.layers
            if layer.input == name or (layer.residual and layer.residual.tensor == name)
        ]
        if len(readers) != 1 or readers[0].input != name or not isinstance(readers[0].op, Conv):
            return None
        op, tensor = readers[0].op, self.network.input
        channels, taps = tensor.shape[2], op.kernel[0] * op.kernel[1]
        if op.groups != 1 or -(-taps * channels // config.rows) >= taps * -(
            -channels // config.rows
        ):
            return None
        if any(op.padding) and zero_digits(self.planes[name], tensor.codebook.levels) is None:
            return None
        oh, ow, _ = output_shape(op, tensor.shape)
        words = words_of((oh, ow, taps * channels), self.planes[name].count, config)
        return readers[0] if words <= config.act_depth // 2 else None

    def place_tensors(self) -> None:
        """Allocate every stored tensor for its life."""
        network, config = self.network, self.config
        dies = {name: -1 for name in network.tensors}
        born = {network.input.name: -1}
        for index, layer in enumerate(network.layers):
            dies[layer.input] = index
            if layer.residual:
                dies[layer.residual.tensor] = index
            if layer.output:
                born[layer.output.name] = index
                dies[layer.output.name] = index
        requests = []
        for name, tensor in network.tensors.items():
            words = words_of(tensor.shape, self.planes[name].count, config)
            if name == network.input.name and self.patches:
                words = self.patch_words()
            requests.append(Request(name, words, born[name], dies[name]))
        bases = allocate(requests, config)
        self.out.act_words = max(bases[r.name] + r.words for r in requests)
        for name, tensor in network.tensors.items():
            height, width, channels = tensor.shape
            groups = -(-channels // config.lanes)
            self.layouts[name] = TensorLayout(
                bases[name], height, width, groups, self.planes[name].count
            )
        if self.patches:
            op = self.patches.op
            assert isinstance(op, Conv)
            oh, ow, _ = output_shape(op, network.input.shape)
            operands = op.kernel[0] * op.kernel[1] * network.input.shape[2]
            self.patch_layout = PatchLayout(
                bases[network.input.name],
                oh * ow,
                -(-operands // config.lanes),
                self.planes[network.input.name].count,
                config.acc_depth,
            )

    def patch_words(self) -> int:
        """Return the words of the packed input."""
        assert self.patches is not None and isinstance(self.patches.op, Conv)
        op, tensor = self.patches.op, self.network.input
        oh, ow, _ = output_shape(op, tensor.shape)
        operands = op.kernel[0] * op.kernel[1] * tensor.shape[2]
        return words_of((oh, ow, operands), self.planes[tensor.name].count, self.config)

    # Steps

    def run(self) -> Schedule:
        """Emit every layer."""
        tensor = self.network.input
        if self.patches is None:
            layout = self.layouts[tensor.name]
            self.out.input = plain_input(tensor, layout, self.config)
            self.load_input(layout.base, layout.words)
        for layer in self.network.layers:
            self.marked = False
            if isinstance(layer.op, MaxPool):
                self.emit_pool(layer, layer.op)
            else:
                self.emit_matrix(layer)
        self.out.steps.append(Step({"opcode": Opcode.END, "lag": 0}, 0, None))
        return self.out

    def load_input(self, address: int, words: int) -> None:
        """Leave a hole of ``words`` input words, written from ``address`` on."""
        for start in range(0, words, 65535):
            count = min(65535, words - start)
            fields = {
                "opcode": Opcode.LOAD,
                "destination": Destination.ACTIVATION,
                "lag": LAG_FREE,
                "count": count,
                "address": address + start,
            }
            self.out.steps.append(Step(fields, count, None, hole=self.loaded))
            self.loaded += count

    def resident(
        self, destination: Destination, key: object, loads: Callable[[int], Sequence[tuple]]
    ) -> int:
        """Return the slot of a content for the next tile; queue its LOADs if it is not resident.

        ``loads(slot)`` gives (destination, address, entries) for each LOAD.
        """
        slots = self.slots[destination]
        slot, missing, user = slots.find(key)
        if missing:
            for where, address, entries in loads(slot):
                lag = LAG_FREE if user < 0 else min(self.tiles - 1 - user, LAG_FREE - 1)
                fields = {
                    "opcode": Opcode.LOAD,
                    "destination": where,
                    "lag": lag,
                    "count": len(entries),
                    "address": address,
                }
                self.pending.append(Step(fields, len(entries), self.entry_words(entries)))
        self.using.append((slots, slot))
        return slot

    def entry_words(self, entries: Sequence[int]) -> Callable[[], np.ndarray]:
        """Return a payload with one entry of up to 64 bits in each port word."""

        def words() -> np.ndarray:
            out = np.zeros((len(entries), -(-self.config.port_bits // 64)), np.uint64)
            out[:, 0] = np.array([int(entry) & (2**64 - 1) for entry in entries], np.uint64)
            return out

        return words

    def table(self, destination: Destination, table: np.ndarray) -> int:
        """Return the slot of a decode table."""
        shift = self.config.code_bits
        return self.resident(
            destination,
            table.tobytes(),
            lambda slot: [(destination, slot << shift, table.tolist())],
        )

    def parameters(self, layer: Layer, column: int) -> int:
        """Return the slot of a column tile's requantization parameters."""
        config, skip, table = self.config, None, 0
        if layer.residual is not None:
            skip = self.planes[layer.residual.tensor]
            if skip.count == 1:
                table = self.table(Destination.RESIDUAL_TABLE, skip.tables[0])

        def loads(slot: int) -> list[tuple]:
            scale, shift = lane_parameters(layer, column, config, skip, table)
            address = slot << clog2(config.cols)
            return [(Destination.SCALE, address, scale), (Destination.SHIFT, address, shift)]

        return self.resident(Destination.SCALE, (layer.name, column, table), loads)

    def encoder(self, layer: Layer) -> tuple[int, int]:
        """Return the slot and the depth of a layer's search tree and map."""
        encoder, output = layer.encoder, layer.output
        assert encoder is not None and output is not None
        depth = max(1, len(encoder.thresholds).bit_length())
        if depth > self.config.encoder_stages:
            raise CapacityError(
                f"layer {layer.name!r}: encoder needs {depth} comparisons, but tensor_bits "
                f"{self.config.tensor_bits} gives {self.config.encoder_stages}; "
                f"use ArrayConfig(tensor_bits={depth - 1})"
            )

        def loads(slot: int) -> list[tuple]:
            tree, codes = search_tree(encoder, self.planes[output.name], depth)
            base = slot << self.config.encoder_stages
            return [
                (Destination.THRESHOLD, base + 1, tree),
                (Destination.MAP, base, codes),
            ]

        return self.resident(Destination.THRESHOLD, layer.name, loads), depth

    def descriptor(self, values: dict[str, int]) -> int:
        """Return the slot of a layer descriptor."""
        packed = pack(DESCRIPTOR, values)
        words = [packed >> (64 * i) & (2**64 - 1) for i in range(DESCRIPTOR_WORDS)]
        return self.resident(
            Destination.DESCRIPTOR,
            packed,
            lambda slot: [(Destination.DESCRIPTOR, slot << 3, words)],
        )

    def emit(
        self, step: Step, reads: list[tuple[int, int]], writes: list[tuple[int, int, int]]
    ) -> None:
        """Append a TILE or POOL after the LOADs it needs, with the lag that its reads demand.

        ``reads`` are (first, stop) addresses; ``writes`` are (first, count, step).
        """
        self.out.steps += self.pending
        self.pending = []
        writer = max((int(self.writer[a:b].max(initial=-1)) for a, b in reads), default=-1)
        step.fields["lag"] = LAG_FREE if writer < 0 else min(self.tiles - 1 - writer, LAG_FREE - 1)
        step.fields["mark"] = int(not self.marked)
        self.marked = True
        self.out.steps.append(step)
        for slots, slot in self.using:
            slots.use(slot, self.tiles)
        self.using = []
        for first, count, stride in writes:
            self.writer[first : first + count * stride : stride] = self.tiles
        self.tiles += 1

    # Layers

    def geometry(self, op: Operator, source: TensorLayout, out_width: int) -> dict[str, int]:
        """Return the descriptor's fields of an operator's walk over its input."""
        sy, sx = op.stride
        return {
            "step_x": sx & ADDRESS_MASK,
            "step_y": sy * source.width & ADDRESS_MASK,
            "width": source.width,
            "height": source.height,
            "stride_x": sx,
            "stride_y": sy,
            "out_width": out_width,
            "kernel_w": 1,
            "kernel_h": 1,
            "planes": 1,
            "pace": 1,
        }

    def window(self, op: AveragePool | MaxPool, source: TensorLayout) -> dict[str, int]:
        """Return the descriptor's fields of a window that is walked inside a tile."""
        dy, dx = op.dilation
        return {
            "kernel_h": op.kernel[0],
            "kernel_w": op.kernel[1],
            "dilation_y": dy,
            "dilation_x": dx,
            "step_kx": dx,
            "step_ky": dy * source.width & ADDRESS_MASK,
        }

    def rows_read(
        self, op: Operator, source: TensorLayout, plane: int, group: int, ys: range
    ) -> tuple[int, int]:
        """Return the addresses that hold input rows ``ys`` (clipped) of one channel group of one
        plane.
        """
        first, last = max(ys.start, 0), min(ys.stop, source.height)
        base = source.address(plane, group)
        if last <= first:
            return base, base
        return base + first * source.width, base + last * source.width

    def emit_pool(self, layer: Layer, op: MaxPool) -> None:
        """Emit a max-pool: one POOL per channel group."""
        assert layer.output is not None
        source, target = self.layouts[layer.input], self.layouts[layer.output.name]
        values = self.geometry(op, source, target.width) | self.window(op, source)
        values |= {
            "planes": source.planes,
            "step_plane": -source.plane_step & ADDRESS_MASK,
            "pace": max(1, target.planes),
            "out_step": 1,
            "out_plane_step": target.plane_step & ADDRESS_MASK,
            "out_planes": target.planes,
        }
        top, _, left, _ = op.padding
        per_pixel = op.kernel[0] * op.kernel[1] * source.planes
        for group in range(source.groups):
            for first, count in blocks(target.pixels, 65535):
                oy, ox = divmod(first, target.width)
                y, x = oy * op.stride[0] - top, -left
                row = source.address(source.planes - 1, group, y, x)
                fields = {
                    "opcode": Opcode.POOL,
                    "first": 1,
                    "last": 1,
                    "descriptor": self.descriptor(values),
                    "count": count,
                    "address": row + ox * op.stride[1] & ADDRESS_MASK,
                    "row_address": row & ADDRESS_MASK,
                    "column": ox,
                    "x": x + ox * op.stride[1],
                    "row_x": x,
                    "y": y,
                    "out_address": target.address(0, group) + first,
                }
                reads = [
                    self.rows_read(op, source, plane, group, range(source.height))
                    for plane in range(source.planes)
                ]
                writes = [
                    (target.address(plane, group) + first, count, 1)
                    for plane in range(target.planes)
                ]
                step = Step(
                    fields, 0, None, count=count, per_pixel=per_pixel, pace=values["pace"],
                    writes=target.planes,
                )  # fmt: skip
                self.emit(step, reads, writes)

    def emit_matrix(self, layer: Layer) -> None:
        """Emit a layer that runs on the array: blocks of pixels, column tiles, passes."""
        config, op = self.config, layer.op
        assert not isinstance(op, MaxPool)
        tensor = self.network.tensors[layer.input]
        matrix, tables = self.matrix(layer, tensor)
        if isinstance(op, Conv):
            bound = partial_sum_bound(matrix, self.planes[layer.input])
        else:
            bound = int(np.abs(self.planes[layer.input].tables.astype(np.int64)).max(axis=1).sum())
            bound *= op.kernel[0] * op.kernel[1]
        if bound >= 1 << (config.acc_bits - 1):
            raise CapacityError(
                f"layer {layer.name!r}: accumulator could reach {bound}, beyond acc_bits "
                f"{config.acc_bits}; use acc_bits={bound.bit_length() + 1} or fewer weight bits"
            )
        oh, ow, channels = output_shape(op, tensor.shape)
        columns = range(-(-channels // config.cols))
        passes = {column: matrix.column_tile(column, len(tables), config) for column in columns}
        packed = layer is self.patches
        for first, count in blocks(oh * ow, config.acc_depth):
            for column in columns:
                for index, tile in enumerate(passes[column]):
                    step_reads = self.tile_step(
                        layer, matrix, tables, column, tile,
                        index == 0, index == len(passes[column]) - 1, first, count,
                    )  # fmt: skip
                    self.emit(*step_reads)
                    if packed and column == 0:
                        self.load_patches(tile, first, count)

    def load_patches(self, tile: WeightTile, first: int, count: int) -> None:
        """Follow the first tile that reads a run of packed input words with the LOAD of that run."""
        layout = self.patch_layout
        assert layout is not None
        word, part = divmod(tile.slice_index * self.config.rows, self.config.lanes)
        if part == 0 and tile.weight_plane == 0:
            self.load_input(layout.address(tile.activation_plane, word, first), count)

    def matrix(self, layer: Layer, tensor: Tensor) -> tuple[Matrix, np.ndarray]:
        """Return a layer's weights and its activation tables, one per plane."""
        op, planes = layer.op, self.planes[layer.input]
        assert not isinstance(op, MaxPool)
        if not isinstance(op, Conv):
            return identity_matrix(op, tensor.shape[2], self.config), planes.tables
        if layer is not self.patches:
            return conv_matrix(op, tensor.shape[2], self.config), planes.tables
        zero = zero_digits(planes, tensor.codebook.levels)
        tables, digits = zero or (planes.tables, np.zeros(planes.count, np.uint8))
        assert self.patch_layout is not None
        self.out.input = patch_input(tensor, op, self.patch_layout, digits, self.config)
        return patch_matrix(op, self.config), tables

    def tile_step(
        self, layer: Layer, matrix: Matrix, tables: np.ndarray, column: int, tile: WeightTile,
        first_pass: bool, last_pass: bool, first: int, count: int,
    ) -> tuple[Step, list, list]:  # fmt: skip
        """Return one TILE with the addresses that it reads and writes."""
        config, op, packed = self.config, layer.op, layer is self.patches
        assert not isinstance(op, MaxPool)
        source = self.layouts[layer.input]
        oh, ow, channels = output_shape(op, self.network.tensors[layer.input].shape)
        group, part = divmod(tile.slice_index * config.rows, config.lanes)
        out_group, out_part = divmod(column * config.cols, config.lanes)
        reads: list[tuple[int, int]] = []
        writes: list[tuple[int, int, int]] = []
        if packed:
            assert self.patch_layout is not None
            base = self.patch_layout.address(tile.activation_plane, group, first)
            values = {
                "step_x": 1, "width": count, "height": 1, "stride_x": 1, "out_width": count,
                "kernel_w": 1, "kernel_h": 1, "planes": 1, "pace": 1,
            }  # fmt: skip
            fields = {"address": base, "row_address": base, "chase": 1}
        else:
            values = self.geometry(op, source, ow)
            tap_y, tap_x = 0, 0
            if isinstance(op, AveragePool):
                values |= self.window(op, source)
            else:
                tap_y, tap_x = divmod(tile.tap, op.kernel[1])
            oy, ox = divmod(first, ow)
            last_y = (first + count - 1) // ow
            y = oy * op.stride[0] + tap_y * op.dilation[0] - op.padding[0]
            x = tap_x * op.dilation[1] - op.padding[2]
            row = source.address(tile.activation_plane, group, y, x)
            bottom = (last_y - oy) * op.stride[0] + (values["kernel_h"] - 1) * op.dilation[0] + 1
            reads.append(
                self.rows_read(op, source, tile.activation_plane, group, range(y, y + bottom))
            )
            fields = {
                "address": row + ox * op.stride[1] & ADDRESS_MASK,
                "row_address": row & ADDRESS_MASK,
                "column": ox,
                "x": x + ox * op.stride[1],
                "row_x": x,
                "y": y,
            }
        fields |= {
            "opcode": Opcode.TILE,
            "first": int(first_pass),
            "last": int(last_pass),
            "masked": int(tile.masked),
            "rows": tile.rows,
            "slice": part // config.rows,
            "out_slice": out_part // config.cols,
            "count": count,
            "weight_slot": self.table(Destination.WEIGHT_TABLE, matrix.tables[tile.weight_plane]),
            "activation_slot": self.table(
                Destination.ACTIVATION_TABLE, tables[tile.activation_plane]
            ),
        }
        per_pixel = values["kernel_h"] * values["kernel_w"]
        to_host = layer.output is None
        values["out_planes"] = 1
        if layer.output is not None:
            assert layer.encoder is not None
            target = self.layouts[layer.output.name]
            values |= {
                "out_step": 1,
                "out_plane_step": target.plane_step & ADDRESS_MASK,
                "out_planes": target.planes,
                "pace": max(1, target.planes),
            }
            values["encoder_slot"], values["encoder_depth"] = self.encoder(layer)
            if last_pass:
                fields["out_address"] = target.address(0, out_group) + first
                writes = [
                    (target.address(plane, out_group) + first, count, 1)
                    for plane in range(target.planes)
                ]
        elif last_pass:
            self.out.results.append(ResultTile(column * config.cols, first, count))
        if layer.residual is not None:
            skip = self.layouts[layer.residual.tensor]
            values |= {
                "residual_step": 1,
                "residual_plane_step": skip.plane_step & ADDRESS_MASK,
                "residual_planes": skip.planes,
            }
            values["pace"] = max(values["pace"], skip.planes)
            if last_pass:
                fields["residual_address"] = skip.address(0, out_group) + first
                reads += [
                    (skip.address(plane, out_group) + first,
                     skip.address(plane, out_group) + first + count)
                    for plane in range(skip.planes)
                ]  # fmt: skip
        if last_pass:
            fields["param_slot"] = self.parameters(layer, column)
        fields["descriptor"] = self.descriptor(values)
        step = Step(
            fields,
            tile.payload,
            lambda: matrix.payload(tile, column, config),
            count=count,
            per_pixel=per_pixel,
            pace=values["pace"] if last_pass else 1,
            writes=values["out_planes"] if last_pass else 0,
            to_host=to_host and last_pass,
            chase=fields["address"] if packed else -1,
        )
        return step, reads, writes


def blocks(pixels: int, depth: int) -> list[tuple[int, int]]:
    """Return (first, count) of the blocks of at most ``depth`` pixels."""
    return [(first, min(depth, pixels - first)) for first in range(0, pixels, depth)]


def search_tree(encoder: Encoder, planes: Planes, depth: int) -> tuple[list[int], list[int]]:
    """Return the thresholds in tree order (root first) and the joined digits of the map, padded to
    ``depth``.

    Unused thresholds are 32767; their map entries repeat the last code.
    """
    nodes = (1 << depth) - 1
    ordered = np.full(nodes, 32767, np.int64)
    ordered[: len(encoder.thresholds)] = encoder.thresholds
    tree = []
    for level in range(depth):
        step = 1 << (depth - level)
        tree += ordered[step // 2 - 1 :: step].tolist()
    joined = planes.joined[encoder.codes]
    codes = np.concatenate([joined, np.full(nodes + 1 - len(joined), joined[-1])])
    return tree, codes.tolist()


def lane_parameters(
    layer: Layer, column: int, config: ArrayConfig, skip: Planes | None, table: int
) -> tuple[list[int], list[int]]:
    """Return the SCALE and SHIFT entries of a column tile's lanes.

    ``skip`` are the planes of the skip tensor, ``table`` its decode slot; without one the residual
    mult is 0.
    """
    tail = layer.requantize
    assert tail is not None
    mult_r, shift_r, linear, offset = 0, 1, 0, 0
    if layer.residual is not None and skip is not None:
        mult_r, shift_r = layer.residual.mult, layer.residual.shift
        linear, offset = int(skip.count > 1), skip.offset
    common = shift_r << 5 | table << 10 | linear << 14 | mult_r << 16 | (offset & 0x1FF) << 32
    scale, shift = [], []
    first = column * config.cols
    for channel in range(first, min(first + config.cols, len(tail.mult))):
        bias = int(tail.bias[channel]) & (2**48 - 1)
        scale.append(int(tail.mult[channel]) | bias << 16)
        shift.append(int(tail.shift[channel]) | common)
    return scale, shift
