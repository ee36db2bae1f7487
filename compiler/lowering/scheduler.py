"""The schedule: every LOAD, TILE and POOL of a network in program order, with counted dependencies.

A ``Step`` knows all that timing needs; payloads are made later, so that sweeping array shapes
builds no images.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import LAG_FREE, Destination, Opcode, plane_cycles
from nupes.compiler.emit.hoisting import lag_after, prefetch
from nupes.compiler.emit.residency import Entries, Residency
from nupes.compiler.emit.steps import ResultTile, Schedule, Step
from nupes.compiler.lowering.operands import LayerOperands, layer_operands, pair_entries
from nupes.compiler.lowering.tiles import (
    Matrix,
    WeightTile,
    conv_matrix,
    identity_matrix,
    partial_sum_bound,
    patch_matrix,
)
from nupes.compiler.place.layout import (
    InputLayout,
    TensorLayout,
    patch_input,
    plain_input,
    zero_digits,
)
from nupes.compiler.place.placement import Placement, check_levels, place
from nupes.model.errors import CapacityError, UnsupportedError
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import AveragePool, Conv, MaxPool, Select, Window

__all__ = ["schedule"]

MOST_PAYLOAD = (1 << 16) - 1
MOST_PIXELS = (1 << 16) - 1
MOST_COORDINATE = (1 << 13) - 1
MOST_STRIDE = (1 << 6) - 1
MOST_KERNEL = (1 << 10) - 1


@dataclass(frozen=True, eq=False)
class Work:
    """A layer that runs on the array, ready to be cut into tiles.

    ``descriptor`` are the fields that all its tiles share; ``passes`` the tiles of each column
    tile.
    """

    layer: Layer
    op: Conv | AveragePool | Select
    matrix: Matrix
    operands: LayerOperands
    descriptor: dict[str, int]
    passes: list[list[WeightTile]]
    packed: bool
    pixels: int
    out_width: int


def schedule(network: IntegerNetwork, config: ArrayConfig) -> Schedule:
    """Return the schedule of a network on an array; raise ``NupesError`` by layer name."""
    return Scheduler(network, config).run()


def blocks(pixels: int, depth: int) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of the blocks of at most ``depth`` pixels."""
    for first in range(0, pixels, depth):
        yield first, min(depth, pixels - first)


class Scheduler:
    """Walks the layers in order and emits their steps."""

    def __init__(self, network: IntegerNetwork, config: ArrayConfig) -> None:
        self.network = network
        self.config = config
        self.place: Placement = place(network, config)
        self.residency = Residency(config)
        self.out = Schedule(self.input_layout(), self.place.act_words)
        self.tiles = 0
        self.writer = np.full(config.act_depth, -1, np.int64)  # the tile that last wrote each word
        self.unmarked = True
        self.late = (0, 0)  # first address and words of the input run that is not through yet

    def run(self) -> Schedule:
        """Emit every layer."""
        if self.place.patched is None:
            layout = self.place.layouts[self.network.the_input.tensor.name]
            self.load_input(layout.base, layout.words)
        for layer in self.network.layers:
            check_walk(layer, self.network.tensors[layer.inputs[0].tensor].shape)
            self.unmarked = True
            if isinstance(layer.op, MaxPool):
                self.emit_pool(layer, layer.op)
            else:
                self.emit_work(self.work(layer, layer.op))
        self.out.steps.append(Step({"opcode": Opcode.END}))
        self.out.steps = prefetch(self.out.steps, self.config)
        return self.out

    # Input

    def input_layout(self) -> InputLayout:
        """Return how the host packs the input."""
        source, layer = self.network.the_input.tensor, self.place.patched
        if layer is None:
            return plain_input(source, self.place.layouts[source.name], self.config)
        assert isinstance(layer.op, Conv)
        assert self.place.patches is not None
        planes = self.place.planes[source.name]
        zero = zero_digits(planes, source.codebook.levels)
        digits = np.zeros(planes.count, np.uint8) if zero is None else zero[1]
        return patch_input(source, layer.op, self.place.patches, digits, self.config)

    def load_input(self, address: int, words: int) -> None:
        """Leave a hole of ``words`` input words, to be written from ``address`` on."""
        for first, count in blocks(words, MOST_PAYLOAD):
            fields = {
                "opcode": Opcode.LOAD,
                "destination": Destination.ACTIVATION,
                "lag": LAG_FREE,
                "count": count,
                "address": address + first,
            }
            self.out.steps.append(Step(fields, count, hole=True))

    # Steps

    def load(self, entries: Entries, user: int, due: int) -> Step:
        """Return the LOAD of some entries for tile ``due``, overwriting those of tile ``user``."""
        destination, address, values = entries
        fields = {
            "opcode": Opcode.LOAD,
            "destination": destination,
            "count": len(values),
            "address": address,
        }

        def payload() -> np.ndarray:
            words = np.zeros((len(values), -(-self.config.port_bits // 64)), np.uint64)
            words[:, 0] = np.array([entry & (2**64 - 1) for entry in values], np.uint64)
            return words

        return Step(fields, len(values), payload, user=user, due=due)

    def emit(self, step: Step, reads: list[tuple[int, int]], writes: list[tuple[int, int]]) -> None:
        """Append a TILE or POOL after the LOADs that it needs; ``reads`` and ``writes`` are (first,
        stop).
        """
        for entries, user, ahead in self.residency.take(self.tiles):
            self.out.steps.append(self.load(entries, user, self.tiles + ahead))
        writer = max((int(self.writer[a:b].max(initial=-1)) for a, b in reads), default=-1)
        step.fields |= {"lag": lag_after(writer, self.tiles), "mark": int(self.unmarked)}
        self.unmarked = False
        self.out.steps.append(step)
        for first, stop in writes:
            self.writer[first:stop] = self.tiles
        self.tiles += 1

    # Walks over the input

    def walk(self, op: Window, source: TensorLayout, out_width: int) -> dict[str, int]:
        """Return the descriptor's fields of an operator's walk over its input."""
        values = {
            "step_x": op.stride[1],
            "step_y": op.stride[0] * source.width,
            "width": source.width,
            "height": source.height,
            "stride_x": op.stride[1],
            "stride_y": op.stride[0],
            "out_width": out_width,
            "kernel_w": 1,
            "kernel_h": 1,
            "planes": 1,
        }
        if isinstance(op, AveragePool | MaxPool):
            values |= {
                "kernel_h": op.kernel[0],
                "kernel_w": op.kernel[1],
                "dilation_y": op.dilation[0],
                "dilation_x": op.dilation[1],
                "step_kx": op.dilation[1],
                "step_ky": op.dilation[0] * source.width,
            }
        return values

    def start(
        self, op: Window, source: TensorLayout, plane: int, group: int, tap: int, first: int,
        out_width: int,
    ) -> dict[str, int]:  # fmt: skip
        """Return the instruction's fields of a walk that starts at output pixel ``first`` of one
        tap.
        """
        oy, ox = divmod(first, out_width)
        tap_y, tap_x = divmod(tap, op.kernel[1])
        y = oy * op.stride[0] + tap_y * op.dilation[0] - op.padding[0]
        x = tap_x * op.dilation[1] - op.padding[2]
        row = source.address(plane, group, y, x)
        return {
            "address": wrap(row + ox * op.stride[1]),
            "row_address": wrap(row),
            "column": ox,
            "x": x + ox * op.stride[1],
            "row_x": x,
            "y": y,
        }

    def target(self, layer: Layer) -> dict[str, int]:
        """Return the descriptor's fields of a layer's results and of its skip tensor."""
        values = {"out_planes": 1, "pace": 1}
        if not layer.wide:
            target = self.place.layouts[layer.output.name]
            values |= {
                "out_step": 1,
                "out_plane_step": target.plane_step,
                "out_planes": target.planes,
                "pace": plane_cycles(target.planes),
            }
        if layer.residual is not None:
            skip = self.place.layouts[layer.residual.port.tensor]
            values |= {
                "residual_step": 1,
                "residual_plane_step": skip.plane_step,
                "residual_planes": skip.planes,
                "pace": max(values["pace"], plane_cycles(skip.planes)),
            }
        return values

    # Max-pools

    def emit_pool(self, layer: Layer, op: MaxPool) -> None:
        """Emit a max-pool: one POOL per channel group."""
        source = self.place.layouts[layer.inputs[0].tensor]
        target = self.place.layouts[layer.output.name]
        values = self.walk(op, source, target.width) | self.target(layer)
        values |= {"planes": source.planes, "step_plane": wrap(-source.plane_step)}
        reads = [(source.base, source.base + source.words)]
        for group in range(source.groups):
            for first, count in blocks(target.pixels, MOST_PIXELS):
                top = source.planes - 1
                fields = self.start(op, source, top, group, 0, first, target.width) | {
                    "opcode": Opcode.POOL,
                    "first": 1,
                    "last": 1,
                    "descriptor": self.residency.descriptor(values),
                    "count": count,
                    "out_address": target.address(0, group) + first,
                }
                step = Step(
                    fields,
                    count=count,
                    per_pixel=op.kernel[0] * op.kernel[1] * source.planes,
                    pace=values["pace"],
                    writes=target.planes,
                )
                self.emit(step, reads, self.runs(target, group, first, count))

    def runs(
        self, layout: TensorLayout, group: int, first: int, count: int
    ) -> list[tuple[int, int]]:
        """Return the addresses (first, stop) of some pixels of a channel group, plane by plane."""
        starts = [layout.address(plane, group) + first for plane in range(layout.planes)]
        return [(start, start + count) for start in starts]

    # Layers on the array

    def work(self, layer: Layer, op: Conv | AveragePool | Select) -> Work:
        """Prepare a layer for the array; raise ``CapacityError`` if its accumulators could
        overflow, ``UnsupportedError`` for codebooks that the cells cannot hold.
        """
        config, planes = self.config, self.place.planes[layer.inputs[0].tensor]
        tensor = self.network.tensors[layer.inputs[0].tensor]
        height, width, channels = op.shape(tensor.shape)
        packed = layer is self.place.patched
        if isinstance(op, Conv):
            where = f"layer {layer.name!r}"
            check_levels(where, op.codebook, "weight_level_bits", config)
        if packed:
            zero = zero_digits(planes, tensor.codebook.levels)
            planes = planes if zero is None else replace(planes, tables=zero[0])
        operands = layer_operands(layer, tensor, planes, config)
        if not isinstance(op, Conv):
            matrix = identity_matrix(op, tensor.shape[2], operands)
        elif packed:
            matrix = patch_matrix(op, operands)
        else:
            matrix = conv_matrix(op, tensor.shape[2], operands)
        window = 1 if isinstance(op, Conv) else op.kernel[0] * op.kernel[1]
        bound = partial_sum_bound(matrix, operands.activations.levels) * window
        if bound >= 1 << (config.acc_bits - 1):
            raise CapacityError(
                f"layer {layer.name!r}: accumulator could reach {bound}, beyond acc_bits "
                f"{config.acc_bits}; it needs {bound.bit_length() + 1} bits, or fewer weight bits"
            )
        source = self.place.layouts[layer.inputs[0].tensor]
        values = self.target(layer)
        if not packed:
            values |= self.walk(op, source, width)
        columns = range(-(-channels // config.cols))
        count = len(operands.activations.planes)
        passes = [matrix.column_tile(column, count, config) for column in columns]
        return Work(
            layer, op, matrix, operands, values, passes, packed, height * width, width
        )  # fmt: skip

    def emit_work(self, work: Work) -> None:
        """Emit a layer: blocks of pixels, column tiles, passes."""
        for first, count in blocks(work.pixels, self.config.acc_depth):
            for column, passes in enumerate(work.passes):
                for index, tile in enumerate(passes):
                    left = len(passes) - 1 - index
                    self.emit_tile(work, column, tile, index == 0, left, first, count)
                    if work.packed:
                        self.load_patches(work, tile, first, count if column == 0 else 0)
        self.load_patches(work, None, 0, 0)

    def load_patches(self, work: Work, tile: WeightTile | None, first: int, count: int) -> None:
        """Follow a tile with the transfer of the run of packed input that it is the first to read.

        Only the run's first word comes at once, the others after the next tile: so that one's
        weights need not wait until the whole run is through the port.
        """
        assert self.place.patches is not None or self.late == (0, 0)
        address, words = self.late
        self.late = (0, 0)
        if tile is not None and count and self.place.patches is not None:
            word, part = divmod(tile.slice_index * self.config.rows, self.config.lanes)
            planes = work.operands.activations.planes
            plane = planes[tile.activation_plane]
            fresh = plane not in planes[: tile.activation_plane]
            if part == 0 and tile.weight_plane == 0 and fresh:
                run = self.place.patches.address(plane, word, first)
                self.late = (run + 1, count - 1)
                # Runs follow one another, so the rest of the last one and this word are one LOAD.
                address, words = (address, words + 1) if words else (run, 1)
        self.load_input(address, words)

    def emit_tile(
        self, work: Work, column: int, tile: WeightTile, first_pass: bool, left: int, first: int,
        count: int,
    ) -> None:  # fmt: skip
        """Emit one TILE: a weight tile over a block; ``left`` passes of its column tile follow."""
        config, op, layer = self.config, work.op, work.layer
        group, part = divmod(tile.slice_index * config.rows, config.lanes)
        out_group, out_part = divmod(column * config.cols, config.lanes)
        operands, i, j = work.operands, tile.weight_plane, tile.activation_plane
        plane = operands.activations.planes[j]
        values = dict(work.descriptor)
        reads: list[tuple[int, int]] = []
        writes: list[tuple[int, int]] = []
        if work.packed:
            assert self.place.patches is not None
            base = self.place.patches.address(plane, group, first)
            values |= {"step_x": 1, "width": count, "height": 1, "stride_x": 1, "out_width": count}
            values |= {"kernel_w": 1, "kernel_h": 1, "planes": 1}
            fields = {"address": base, "row_address": base, "chase": 1}
        else:
            source = self.place.layouts[layer.inputs[0].tensor]
            fields = self.start(op, source, plane, group, tile.tap, first, work.out_width)
            rows = (first + count - 1) // work.out_width - first // work.out_width
            bottom = fields["y"] + rows * op.stride[0]
            bottom += (values["kernel_h"] - 1) * op.dilation[0] + 1
            reads.append(rows_of(source, plane, group, fields["y"], bottom))
        fields |= {
            "opcode": Opcode.TILE,
            "first": int(first_pass),
            "last": int(left == 0),
            "masked": int(tile.masked),
            "rows": tile.rows,
            "slice": part // config.rows,
            "out_slice": out_part // config.cols,
            "count": count,
            "shift": operands.weights.shifts[i] + operands.activations.shifts[j],
            "weight_slot": self.residency.table(
                Destination.WEIGHT_TABLE, operands.weight_entries(i, config)
            ),
            "activation_slot": self.residency.table(
                Destination.ACTIVATION_TABLE, operands.activation_entries(j, config)
            ),
        }
        if config.mac == "pair":
            self.residency.products(pair_entries(operands, config))
        if not layer.wide:
            slot, depth = self.residency.encoder(layer, self.place.planes[layer.output.name], left)
            values |= {"encoder_slot": slot, "encoder_depth": depth}
        fields["descriptor"] = self.residency.descriptor(values)
        step = Step(
            fields, tile.payload, lambda: work.matrix.payload(tile, column, config),
            count=count, per_pixel=values["kernel_h"] * values["kernel_w"],
            chase=fields["address"] if work.packed else -1,
        )  # fmt: skip
        if left == 0:
            step.pace, step.writes = values["pace"], values["out_planes"]
            step.to_host = layer.wide
            skip = None
            if layer.residual is not None:
                skip = self.place.planes[layer.residual.port.tensor]
                layout = self.place.layouts[layer.residual.port.tensor]
                fields["residual_address"] = layout.address(0, out_group) + first
                reads += self.runs(layout, out_group, first, count)
            if not layer.wide:
                target = self.place.layouts[layer.output.name]
                fields["out_address"] = target.address(0, out_group) + first
                writes = self.runs(target, out_group, first, count)
            else:
                self.out.results.append(ResultTile(column * config.cols, first, count))
            fields["param_slot"] = self.residency.parameters(layer, column, skip)
        self.emit(step, reads, writes)


def check_walk(layer: Layer, shape: tuple[int, int, int]) -> None:
    """Refuse, by name, a window that the instruction's fields cannot describe."""
    op = layer.op
    window = not isinstance(op, Conv)
    for axis, name in enumerate(("rows", "columns")):
        reach = shape[axis] + sum(op.padding[2 * axis : 2 * axis + 2])
        for what, value, most in (
            (f"padded input {name}", reach, MOST_COORDINATE),
            (f"stride over {name}", op.stride[axis], MOST_STRIDE),
            (f"dilation over {name}", op.dilation[axis] if window else 1, MOST_STRIDE),
            (f"kernel {name}", op.kernel[axis] if window else 1, MOST_KERNEL),
        ):
            if value > most:
                raise UnsupportedError(
                    f"layer {layer.name!r}: {what} must be at most {most} on the array, not {value}"
                )


def wrap(address: int) -> int:
    """Return an address or address step modulo the width of its field."""
    return address & ((1 << 20) - 1)


def rows_of(layout: TensorLayout, plane: int, group: int, top: int, bottom: int) -> tuple[int, int]:
    """Return the addresses (first, stop) of map rows ``top`` to ``bottom``, clipped to the map."""
    base = layout.address(plane, group)
    top, bottom = max(top, 0), min(bottom, layout.height)
    return base + top * layout.width, base + max(top, bottom) * layout.width
