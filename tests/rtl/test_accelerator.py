"""The whole accelerator against the interpreter: random programs, stalls, errors, resets."""

import random
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import LAG_FREE, Destination, Opcode, Status
from tests.rtl.interpreter import Machine
from tests.rtl.program import Program, Stalls, run
from tests.rtl.random_program import IDENTITY, SIZE, add_layer, dump, fill, fill_tables, small

SHAPES = st.sampled_from(
    [
        small(),
        small(4, 4, code_bits=2, burst=2, fetch_depth=4),
        small(2, 4, code_bits=3),
        small(4, 2, code_bits=5, tensor_bits=5),
        small(2, 2, code_bits=2, acc_depth=32, burst=16, fetch_depth=32),
        small(8, 2),
        small(4, 4, code_bits=3),
        small(3, 6, code_bits=2),
    ]
)

PRODUCTS = {
    **{f"decode, {bits} bits": small(code_bits=bits, tensor_bits=bits) for bits in range(2, 9)},
    "decode, 4x2": small(4, 2, code_bits=3),
    "uniform": small(2, 4, code_bits=2, mac="uniform"),
    "square": small(mac="square", code_bits=3),
    "pair": small(4, 2, mac="pair", code_bits=2),
    "product": small(
        mac="product", weight_magnitudes=(1, 5, 7), activation_magnitudes=tuple(range(1, 16))
    ),
}
PRODUCTS = {name: replace(config, products=True) for name, config in PRODUCTS.items()}
"""Arrays with products: every width of codes, every kind of cell."""

STALLS = st.builds(
    Stalls,
    request=st.sampled_from([0, 0.5]),
    response=st.sampled_from([0, 0.2, 0.6]),
    result=st.sampled_from([0, 0.5, 0.95]),
    latency=st.sampled_from([1, 7]),
    seed=st.integers(0, 999),
)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(config=SHAPES, seed=st.integers(0, 2**32), layers=st.integers(1, 4), stalls=STALLS)
def test_random_programs(config: ArrayConfig, seed: int, layers: int, stalls: Stalls) -> None:
    check_random_program(config, seed, layers, stalls)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(
    name=st.sampled_from(sorted(PRODUCTS)), seed=st.integers(0, 2**32), layers=st.integers(1, 4),
    stalls=STALLS,
)  # fmt: skip
def test_random_products(name: str, seed: int, layers: int, stalls: Stalls) -> None:
    check_random_program(PRODUCTS[name], seed, layers, stalls)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRODUCTS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), stalls=STALLS)
def test_many_random_products(name: str, seed: int, stalls: Stalls) -> None:
    check_random_program(PRODUCTS[name], seed, 4, stalls)


def check_random_program(config: ArrayConfig, seed: int, layers: int, stalls: Stalls) -> None:
    """Compare what a program of random layers leaves in memory with the interpreter's."""
    program, chance = Program(config), random.Random(seed)
    fill(program, chance)
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
    (cut,) = run(config, [good[:-1]])  # ``length`` ends before END does
    assert cut.status == Status.TIMEOUT
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
    # DECODE in 7, payload 8 to 12. TILE: 13 to 16, DECODE 17, rows 18 and 19, dispatched in 19,
    # first word in 20, final word in 35.
    first = 20
    # The second TILE waits for the first one to retire: final word + issue_to_write; the count is
    # seen one cycle later, the first word comes one cycle after that.
    second = first + 15 + config.issue_to_write + 2
    # The final result enters the queue, is seen there and taken one cycle later; END sees an empty
    # queue one cycle after that, and then done.
    done = second + 15 + config.issue_to_write + 3
    assert outcome.marks == [first, second]
    assert outcome.cycles == done


@pytest.mark.parametrize("masked", [False, True])
def test_cycles_of_a_run(masked: bool) -> None:
    """Behind its instruction each tile takes no more cycles than its weights have port words."""
    config = small(8, 8, code_bits=2)
    program = Program(config)
    program.layer(0, width=4, height=4, out_width=4, encoder_depth=0)
    rows, tiles = [[0] * 8] * 8, 5
    masks = [255] * 8 * tiles if masked else None
    program.tile(rows * tiles, masks, mark=1, count=3, lag=0, more=tiles - 1)
    program.tile(rows, mark=1, count=3, lag=LAG_FREE)
    (outcome,) = run(config, [program.end()])
    # DECODE of the TILE in 17 as above, its payload from 18 on, in the cycles of one word each.
    words = 8 * (1 + masked)
    first, last = 18 + words, 18 + tiles * words
    # The next instruction's 4 words, DECODE and 8 rows.
    assert outcome.marks == [first, last + 4 + 1 + 8]


def test_a_run_waits_for_the_words_of_its_tiles() -> None:
    """Weights of the next tile come from the cycle on in which a tile begins."""
    config = small()
    program = Program(config)
    program.layer(0, width=4, height=4, out_width=4, encoder_depth=0)
    program.tile([[0, 0]] * 3, mark=1, count=16, lag=0, more=2)
    program.tile([[0, 0]], mark=1, count=16, lag=LAG_FREE)
    (outcome,) = run(config, [program.end()])
    # One row: the first word in 19, each tile 16 words behind the one before.
    assert outcome.marks == [19, 19 + 3 * 16]


def test_cycles_of_a_product() -> None:
    """Every word of a MULTIPLY keeps its pace, in a pass without results as well."""
    config = small(code_bits=2, products=True)
    program = Program(config)
    layer = {"width": 4, "height": 1, "out_width": 4, "encoder_depth": 0}
    program.layer(0, **layer, residual_planes=5, pace=3)
    tile = {"opcode": Opcode.MULTIPLY, "mark": 1, "count": 4, "lag": LAG_FREE}
    program.tile([[0, 0], [0, 0]], **tile, last=0)
    program.tile([[0, 0], [0, 0]], **tile, first=0)
    (outcome,) = run(config, [program.end()])
    # As above until the first word in 20; words in 20, 23, 26, 29, then 32, 35, 38, 41.
    assert outcome.marks == [20, 32]
    assert outcome.cycles == 41 + config.issue_to_write + 3


@pytest.mark.parametrize("response", [0, 0.7])
def test_a_tile_chases_the_load_of_its_words(response: float) -> None:
    config = small()
    sent = []
    for chase in (0, 1):
        program, chance = Program(config), random.Random(1)
        fill_tables(program, chance)
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
    assert expected_results(config, sent[1]) == results
    (outcome,) = run(config, [sent[1]], Stalls(response=response))
    assert (outcome.status, outcome.results) == (Status.OK, results)


def test_a_load_below_what_a_tile_chases_waits_for_it() -> None:
    """The write pointer falls when the LOAD need not wait any more."""
    config = small()
    program, chance = Program(config), random.Random(1)
    fill_tables(program, chance)
    layer = {"width": 4, "height": 4, "out_width": 4, "step_y": 4, "encoder_depth": 0}
    program.layer(0, **layer, pace=7)  # so the tile chases long after its last word has come
    for lag in (LAG_FREE, 0):
        words = [chance.getrandbits(config.word_bits) for _ in range(16)]
        program.load(Destination.ACTIVATION, 0, words[:1], lag=lag)
        program.tile([[1, 2], [3, 4]], count=16, chase=1, descriptor=0)
        program.load(Destination.ACTIVATION, 1, words[1:], lag=LAG_FREE)
    sent = program.end()
    results = expected_results(config, sent)
    assert results[:16] != results[16:]
    for stalls in (Stalls(), Stalls(result=0.8)):
        (outcome,) = run(config, [sent], stalls)
        assert (outcome.status, outcome.results) == (Status.OK, results)
