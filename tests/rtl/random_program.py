"""Random programs: tables, layers of any geometry, and a dump of the activation memory."""

import random
from typing import Any

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.encoding import pack_instruction
from nupes.arch.isa import LAG_FREE, Destination, Opcode, plane_cycles
from tests.rtl.program import LAYER, Program
from tests.rtl.tiles import tiles_of, walk

__all__ = ["IDENTITY", "SIZE", "add_layer", "dump", "fill", "fill_tables", "small"]

SIZE = 32
"""Words of the activation memory."""

IDENTITY = 1
"""Table and parameter slot that copy codes."""


def small(rows: int = 2, cols: int = 2, **fields: Any) -> ArrayConfig:
    """Return a configuration that simulates quickly."""
    sizes = {"act_depth": SIZE, "acc_depth": 16, "param_slots": 2, "tensor_bits": 4, "burst": 4}
    return ArrayConfig(rows=rows, cols=cols, **sizes | {"fetch_depth": 16} | fields)


def fill(program: Program, chance: random.Random) -> None:
    """Append LOADs of everything that a random layer can use."""
    fill_tables(program, chance)
    image = [chance.getrandbits(program.config.word_bits) for _ in range(SIZE)]
    program.load(Destination.ACTIVATION, 0, image)


def fill_tables(program: Program, chance: random.Random) -> None:
    """Append LOADs of random tables and parameters, and of an identity."""
    config = program.config
    radix = 2**config.code_bits

    def numbers(count: int, bits: int, signed: bool = True) -> list[int]:
        low = -(2 ** (bits - 1)) if signed else 0
        return [chance.randrange(low, low + 2**bits) for _ in range(count)]

    codes, cell = range(radix), config.cell
    for table, bits, operand_bits in (
        (Destination.WEIGHT_TABLE, cell.weight_bits, cell.weight_bits),
        (Destination.ACTIVATION_TABLE, config.level_entry_bits, cell.activation_bits),
        (Destination.RESIDUAL_TABLE, *[config.activation_level_bits] * 2),
    ):
        straight = [code % 2 ** (operand_bits - 1) | 2**operand_bits % 2**bits for code in codes]
        program.load(table, 0, numbers(radix, bits) + straight)
    if config.mac == "pair":
        tops = 1 << cell.weight_bits - 1, 1 << cell.activation_bits - 1
        products = numbers(tops[0] * tops[1], config.product_bits, False)
        # A magnitude of 0 has product 0.
        table = [item * bool(i // tops[1] and i % tops[1]) for i, item in enumerate(products)]
        program.load(Destination.PRODUCT, 0, table)
    for slot in range(2):
        address = slot << clog2(config.cols)
        scales, shifts = [], []
        for _ in range(config.cols):
            identity = slot == IDENTITY
            mult, shift = (2, 1) if identity else (chance.randrange(65536), chance.randint(8, 24))
            bias = 1 if identity else chance.randrange(2**24)
            scales.append(mult | bias << 16)
            residual = 0 if identity else chance.randrange(2**16)
            slots = chance.randrange(2) << 10 | chance.randrange(2) << 14
            offset = chance.randrange(512) << 32
            shifts.append(shift | chance.randint(1, 31) << 5 | slots | residual << 16 | offset)
        program.load(Destination.SCALE, address, scales)
        program.load(Destination.SHIFT, address, shifts)
    for slot in range(2):
        program.load(
            Destination.THRESHOLD,
            slot << config.encoder_stages | 1,
            numbers(2**config.encoder_stages - 1, 16),
        )
        program.load(
            Destination.MAP,
            slot << config.encoder_stages,
            numbers(2**config.encoder_stages, config.joined_bits, signed=False),
        )


def dump(program: Program) -> None:
    """Append tiles that send the whole activation memory to the host."""
    config = program.config
    if config.mac == "pair":
        tops = 1 << config.cell.weight_bits - 1, 1 << config.cell.activation_bits - 1
        table = [left * right for left in range(tops[0]) for right in range(tops[1])]
        program.load(Destination.PRODUCT, 0, table)
    program.layer(3, width=SIZE, height=1, out_width=SIZE, encoder_depth=0)
    for part in range(config.lanes // config.rows):
        for group in range(0, config.rows, config.cols):
            rows = [[1] * config.cols for _ in range(config.rows)]
            masks = [1 << (row - group) if row >= group else 0 for row in range(config.rows)]
            for begin in range(0, SIZE, config.acc_depth):
                program.tile(
                    rows,
                    masks,
                    lag=0,
                    descriptor=3,
                    weight_slot=IDENTITY,
                    activation_slot=IDENTITY,
                    param_slot=IDENTITY,
                    slice=part,
                    address=begin,
                    x=begin,
                    column=begin,
                    count=config.acc_depth,
                )


def add_layer(program: Program, chance: random.Random, slot: int) -> bool:
    """Append a random layer, unless it reads what it writes; return whether it did."""
    config = program.config
    kind = chance.choice(["store", "store", "host", "pool"])
    planes = config.planes
    joins = config.joins and kind != "pool" and chance.randrange(2)
    out_planes = chance.randint(1, planes)
    residual_planes = chance.randint(0, planes) if kind != "pool" else 0
    layer = LAYER | {
        "step_x": chance.randrange(-2, 4),
        "step_y": chance.randrange(-8, 9),
        "step_kx": chance.randrange(-2, 3),
        "step_ky": chance.randrange(-4, 5),
        "step_plane": chance.randrange(-3, 5, 2) if joins else chance.randrange(-4, 5),
        "width": chance.randint(1, 6),
        "height": chance.randint(1, 6),
        "stride_x": chance.randint(0, 2),
        "stride_y": chance.randint(0, 2),
        "dilation_x": chance.randint(0, 2),
        "dilation_y": chance.randint(0, 2),
        "out_width": chance.randint(1, 5),
        "kernel_w": chance.randint(1, 3),
        "kernel_h": chance.randint(1, 2),
        "planes": planes if kind == "pool" else chance.randint(1, 2),
        "pace": plane_cycles(max(out_planes, residual_planes)),
        "out_step": chance.randrange(0, 3),
        "out_row_step": chance.randrange(-3, 6),
        "out_plane_step": chance.randrange(1, 9, 2),
        "out_planes": out_planes,
        "residual_step": chance.randrange(-2, 3),
        "residual_row_step": chance.randrange(-3, 6),
        "residual_plane_step": chance.randrange(-7, 9, 2),
        "residual_planes": residual_planes,
        "encoder_slot": chance.randrange(2),
        "encoder_depth": 0 if kind == "host" else chance.randint(1, config.encoder_stages),
    }
    tile = {
        "count": chance.randint(1, 12),
        "address": chance.randrange(SIZE),
        "row_address": chance.randrange(SIZE),
        "column": chance.randrange(layer["out_width"]),
        "x": chance.randint(-2, 3),
        "row_x": chance.randint(-2, 1),
        "y": chance.randint(-2, 3),
        "out_address": chance.randrange(SIZE),
        "residual_address": chance.randrange(SIZE),
        "out_slice": chance.randrange(max(1, config.rows // config.cols)),
        "descriptor": slot,
        "lag": 0,
        "mark": 1,
    }
    opcodes = [Opcode.TILE, Opcode.MULTIPLY] if config.products else [Opcode.TILE]
    passes = 1 if kind == "pool" else chance.randint(1, 3)
    counts = [chance.randint(0, config.rows) for _ in range(passes)]
    runs = [random_run(config, chance, rows > 0 and kind != "pool") for rows in counts]
    carried = [
        item
        for run in runs
        for item in tiles_of(pack_instruction({"opcode": Opcode.TILE, **tile, **run}), config)
    ]
    reads, writes = set(), set()
    for word in (word for item in carried for word in walk(item, layer)):
        if word.inside:
            reads |= {word.address % SIZE, (word.address + layer["step_plane"]) % SIZE}
        for plane in range(residual_planes):
            address = word.residual_address + plane * layer["residual_plane_step"]
            reads.add(address % SIZE)
        for plane in range(out_planes):
            writes.add((word.out_address + plane * layer["out_plane_step"]) % SIZE)
    if kind != "host" and reads & writes:
        return False
    program.layer(slot, **layer)
    if kind == "pool":
        program.pool(**tile)
        return True
    held = 0  # rows of weights in the cells
    for index, (count, run) in enumerate(zip(counts, runs, strict=True)):
        if 0 < count <= held and chance.randrange(3) == 0:
            kept = run | {"more": 0, "kept": 1, "rows": count, "weight_slot": 0}
            follows = {"last": int(index == passes - 1), "lag": LAG_FREE, "mark": 0, "first": 0}
            program.instruction(Opcode.TILE, tile | kept | follows)
            continue
        held = max(held, count)
        rows = count * (run["more"] + 1)
        join = {"joined": int(joins and chance.randrange(2))}
        join |= {"weights_joined": int(config.joins_weights and chance.randrange(2))}
        program.tile(
            [
                [chance.randrange(2**config.code_bits) for _ in range(config.cols)]
                for _ in range(rows * (1 + join["weights_joined"]))
            ],
            chance.choice([None, [chance.randrange(2**config.cols) for _ in range(rows)]]),
            **tile
            | run
            | join
            | {
                "opcode": chance.choice(opcodes),
                "shift": chance.randrange(1 << config.shift_bits),
                "first": int(index == 0),
                "last": int(index == passes - 1),
                "lag": 0 if index == 0 else LAG_FREE,
                "mark": int(index == 0),
            },
        )
    return True


def random_run(config: ArrayConfig, chance: random.Random, several: bool) -> dict[str, int]:
    """Return the slice of a pass, and how the tiles of its run, if there may be ``several``, differ
    from it."""
    return {
        "slice": chance.randrange(max(1, config.cols // config.rows)),
        "more": chance.choice([0, 0, 1, 4]) if several else 0,
        "run_step": chance.randrange(-3, 4),
        "run_x": chance.randrange(3),
        "run_slices": chance.randrange(2),
        "warm_up": chance.choice([0, 0, 1, 2, 3]),
    }
