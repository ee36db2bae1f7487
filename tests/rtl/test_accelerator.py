"""The whole accelerator against the interpreter: random programs, stalls, errors, resets."""

import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nupes.rtl.config import ArrayConfig, clog2
from nupes.rtl.isa import LAG_FREE, Destination, Status
from tests.rtl.interpreter import Machine, walk
from tests.rtl.program import LAYER, Program, Stalls, run

SIZE = 32
"""Words of the activation memory."""

IDENTITY = 1
"""Table and parameter slot that copy codes."""


def small(rows: int = 2, cols: int = 2, **fields: int) -> ArrayConfig:
    """Return a configuration that simulates quickly."""
    sizes = {"act_depth": SIZE, "acc_depth": 16, "param_slots": 2, "tensor_bits": 4, "burst": 4}
    return ArrayConfig(rows=rows, cols=cols, **sizes | {"fetch_depth": 16} | fields)


def fill(program: Program, chance: random.Random) -> None:
    """Append LOADs of random tables and parameters, and of an identity."""
    config = program.config
    radix = 2**config.code_bits

    def numbers(count: int, bits: int, signed: bool = True) -> list[int]:
        low = -(2 ** (bits - 1)) if signed else 0
        return [chance.randrange(low, low + 2**bits) for _ in range(count)]

    codes = range(radix)
    weights = [code % 2 ** (config.weight_level_bits - 1) for code in codes]
    program.load(Destination.WEIGHT_TABLE, 0, numbers(radix, config.weight_level_bits) + weights)
    for table in (Destination.ACTIVATION_TABLE, Destination.RESIDUAL_TABLE):
        program.load(table, 0, numbers(radix, config.activation_level_bits) + list(codes))
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
    out_planes = chance.randint(1, planes)
    residual_planes = chance.randint(0, planes) if kind != "pool" else 0
    layer = LAYER | {
        "step_x": chance.randrange(-2, 4),
        "step_y": chance.randrange(-8, 9),
        "step_kx": chance.randrange(-2, 3),
        "step_ky": chance.randrange(-4, 5),
        "step_plane": chance.randrange(-4, 5),
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
        "pace": max(1, out_planes, residual_planes),
        "out_step": chance.randrange(0, 3),
        "out_plane_step": chance.randrange(0, 9),
        "out_planes": out_planes,
        "residual_step": chance.randrange(-2, 3),
        "residual_plane_step": chance.randrange(-8, 9),
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
    reads, writes = set(), set()
    for word in walk(tile, layer):
        if word.inside:
            reads.add(word.address % SIZE)
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
    passes = chance.randint(1, 3)
    for index in range(passes):
        rows = chance.randint(0, config.rows)
        program.tile(
            [
                [chance.randrange(2**config.code_bits) for _ in range(config.cols)]
                for _ in range(rows)
            ],
            chance.choice([None, [chance.randrange(2**config.cols) for _ in range(rows)]]),
            **tile
            | {
                "first": int(index == 0),
                "last": int(index == passes - 1),
                "slice": chance.randrange(max(1, config.cols // config.rows)),
                "lag": 0 if index == 0 else LAG_FREE,
                "mark": int(index == 0),
            },
        )
    return True


SHAPES = st.sampled_from(
    [
        small(),
        small(4, 4, code_bits=2, burst=2, fetch_depth=4),
        small(2, 4, code_bits=3),
        small(4, 2, code_bits=5, tensor_bits=5),
        small(2, 2, code_bits=2, acc_depth=32, burst=16, fetch_depth=32),
        small(8, 2),
    ]
)

STALLS = st.builds(
    Stalls,
    request=st.sampled_from([0, 0.5]),
    response=st.sampled_from([0, 0.2, 0.6]),
    result=st.sampled_from([0, 0.5, 0.95]),
    latency=st.sampled_from([1, 7]),
    seed=st.integers(0, 999),
)


@settings(max_examples=8, deadline=None)
@given(config=SHAPES, seed=st.integers(0, 2**32), layers=st.integers(1, 4), stalls=STALLS)
def test_random_programs(config: ArrayConfig, seed: int, layers: int, stalls: Stalls) -> None:
    program, chance = Program(config), random.Random(seed)
    fill(program, chance)
    image = [chance.getrandbits(config.word_bits) for _ in range(SIZE)]
    program.load(Destination.ACTIVATION, 0, image)
    count = sum(add_layer(program, chance, slot) for slot in range(3) for _ in range(layers))
    assume(count)
    dump(program)
    machine = Machine(config)
    machine.run(program.end())
    (outcome,) = run(config, [program.words], stalls)
    assert outcome.status == machine.status == Status.OK
    assert outcome.results == machine.results
    assert len(outcome.marks) == count
    assert outcome.outstanding <= 2


def plain_program(config: ArrayConfig) -> list[int]:
    """Return a program that sends random activations to the host."""
    program, chance = Program(config), random.Random(5)
    codes, radix = list(range(2**config.code_bits)), 2**config.code_bits
    program.load(Destination.WEIGHT_TABLE, IDENTITY * radix, codes)
    program.load(Destination.ACTIVATION_TABLE, IDENTITY * radix, codes)
    place = IDENTITY << clog2(config.cols)
    program.load(Destination.RESIDUAL_TABLE, 0, [0] * radix)
    program.load(Destination.SCALE, place, [2 | 1 << 16] * config.cols)
    program.load(Destination.SHIFT, place, [1] * config.cols)
    image = [chance.getrandbits(config.word_bits) for _ in range(SIZE)]
    program.load(Destination.ACTIVATION, 0, image)
    dump(program)
    return program.end()


def expected_results(config: ArrayConfig, words: list[int]) -> list[list[int]]:
    """Return what a program sends to the host."""
    machine = Machine(config)
    machine.run(words)
    return machine.results


@pytest.mark.parametrize("cut", [1, 100, 160, 185])
def test_reset_in_mid_run_leaves_nothing_behind(cut: int) -> None:
    config = small()
    words = plain_program(config)
    (outcome,) = run(config, [words, words], reset_after=cut)
    (undisturbed,) = run(config, [words])
    assert outcome == undisturbed
    assert outcome.results == expected_results(config, words)


@pytest.mark.parametrize("victim", [-4, -12, 0])
def test_bad_instruction_ends_the_run_and_leaves_nothing_behind(victim: int) -> None:
    config = small()
    good = plain_program(config)
    bad = list(good)
    bad[victim] ^= 1 << 17
    outcomes = run(config, [bad, good, bad, good], Stalls(result=0.5, latency=3))
    assert [o.status for o in outcomes] == [Status.BAD_INSTRUCTION, Status.OK] * 2
    assert outcomes[1].results == outcomes[3].results == expected_results(config, good)


def test_watchdog() -> None:
    config = small(watchdog=256)
    good = plain_program(config)
    (silent,) = run(config, [good], Stalls(response=1))
    # The last progress would be in the cycle of start.
    assert (silent.status, silent.cycles) == (Status.TIMEOUT, 257)
    (deaf,) = run(config, [good], Stalls(result=1))
    assert deaf.status == Status.TIMEOUT


def test_run_after_a_timeout() -> None:
    config = small(watchdog=256)
    program = Program(config)
    program.layer(3, width=4, height=4, out_width=4, encoder_depth=0)
    program.tile([[0, 0]], descriptor=3, count=16, chase=1, address=31, row_address=31)
    program.load(Destination.ACTIVATION, 0, [0])  # never reaches the tile's address
    good = plain_program(config)
    outcomes = run(config, [program.end(), good])
    assert [o.status for o in outcomes] == [Status.TIMEOUT, Status.OK]
    assert outcomes[1].results == expected_results(config, good)


def test_cycles_of_a_small_program() -> None:
    """The documented times, added up by hand."""
    config = small()
    program = Program(config)
    program.layer(0, width=4, height=4, out_width=4, encoder_depth=0)
    program.tile([[0, 0], [0, 0]], mark=1, count=16, lag=0, last=0)
    program.tile([[0, 0], [0, 0]], mark=1, count=16, lag=0, first=0)
    (outcome,) = run(config, [program.end()])
    # Start in 0, request in 1, first response in 2, first instruction word in 3. LOAD: 4 words,
    # DECODE in 7, payload 8 to 12. TILE: 13 to 16, DECODE 17, rows 18 and 19, dispatched in 20,
    # first word in 21, final word in 36.
    first = 21
    # The second TILE waits for the first one to retire: final word + issue_to_write; the count is
    # seen one cycle later, the first word comes one cycle after that.
    second = first + 15 + config.issue_to_write + 2
    # The final result enters the queue, is seen there and taken one cycle later; END sees an empty
    # queue one cycle after that, and then done.
    done = second + 15 + config.issue_to_write + 3
    assert outcome.marks == [first, second]
    assert outcome.cycles == done


@pytest.mark.parametrize("response", [0, 0.7])
def test_a_tile_chases_the_load_of_its_words(response: float) -> None:
    config = small()
    sent = []
    for chase in (0, 1):
        program, chance = Program(config), random.Random(1)
        fill(program, chance)
        image = [chance.getrandbits(config.word_bits) for _ in range(16)]
        layer = {"width": 4, "height": 4, "out_width": 4, "step_y": 4, "encoder_depth": 0}
        program.layer(0, **layer)
        if not chase:
            program.load(Destination.ACTIVATION, 0, image)
        program.tile([[1, 2], [3, 4]], count=16, chase=chase, descriptor=0)
        if chase:
            program.load(Destination.ACTIVATION, 0, image, lag=LAG_FREE)
        sent.append(program.end())
    results = expected_results(config, sent[0])
    (outcome,) = run(config, [sent[1]], Stalls(response=response))
    assert (outcome.status, outcome.results) == (Status.OK, results)
