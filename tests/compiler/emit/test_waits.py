"""Waits of whole programs, without cycles: results are there as late as waits allow, and LOADs come
as early."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import LAG_FREE, Opcode
from nupes.compiler.program import Program, compile
from nupes.model.network import IntegerNetwork
from tests.compiler.test_program import run_on
from tests.depthwise import depthwise_networks, narrow_maps
from tests.encoders import encoders_for
from tests.images import all_images_of
from tests.networks import kinds_of, many, networks
from tests.packed import tight_programs
from tests.rtl.interpreter import Machine
from tests.spilled import spilled_programs
from tests.test_batches import batches

ARRAYS = [
    ArrayConfig(4, 4, acc_depth=8, products=True),
    ArrayConfig(4, 8, code_bits=3, acc_depth=16),
    ArrayConfig(8, 4, code_bits=2, acc_depth=8, param_slots=2),
]


@dataclass
class Sluggish(Machine):
    """A machine whose tiles write nothing before a wait or the end makes them."""

    unfinished: list[list[tuple[int, list[int], int]]] = field(default_factory=list)
    """What each tile that has streamed, but not retired, is still to write."""
    factors_follow: bool = False
    """Whether the latest tile retires with factors of tokens: the next one waits for it."""

    def retire(self, most: int) -> None:
        """Let tiles retire until at most so many are unfinished."""
        while len(self.unfinished) > most:
            for write in self.unfinished.pop(0):
                super().store(*write)

    def load(self, load: dict[str, int], words: list[int]) -> None:
        """Execute a LOAD, which waits for tiles to retire."""
        self.proceed(load["lag"])
        # Tiles that have not begun count as well.
        most = max(load["lag"] - len(self.waiting), 0)
        self.retire(most if load["lag"] != LAG_FREE else len(self.unfinished))
        super().load(load, words)

    def tile(self, tile: dict[str, int], stream: Iterator[int]) -> None:
        """Execute a tile behind those that it waits for."""
        if tile["opcode"] != Opcode.MATMUL:
            self.wait(tile)
        super().tile(tile, stream)

    def matrix(self, tile: dict[str, int], layer: dict[str, int]) -> list[list[int]]:
        """Return the weights of a MATMUL: they wait for tiles of their own."""
        if tile["weight_lag"] != LAG_FREE:
            self.retire(tile["weight_lag"])
        codes = super().matrix(tile, layer)
        self.wait(tile)
        return codes

    def pool(self, tile: dict[str, int]) -> None:
        """Execute a POOL, which waits for all tiles."""
        self.wait(tile, alone=True)
        super().pool(tile)

    def put(self, tile: dict[str, int]) -> None:
        """Execute a STORE, which waits for all tiles."""
        self.wait(tile, alone=True)
        super().put(tile)

    def measure(self, tile: dict[str, int]) -> None:
        """Execute a MEASURE, which waits for all tiles, and the next one for it."""
        self.wait(tile, alone=True)
        super().measure(tile)
        self.factors_follow = True

    def wait(self, tile: dict[str, int], alone: bool = False) -> None:
        """Let those tiles retire for which one waits."""
        if alone or self.factors_follow:
            self.retire(0)
        elif tile["lag"] != LAG_FREE:
            self.retire(tile["lag"])
        self.factors_follow = bool(tile["gather"] and tile["gather_last"])
        self.unfinished.append([])

    def store(self, address: int, codes: list[int], part: int = 0) -> None:
        """Keep a write until its tile retires."""
        self.unfinished[-1].append((address, codes, part))


def check(program: Program) -> None:
    """Compare the results of one image, or of a batch."""
    network = program.network
    codes = network.encode_all(*all_images_of(network, program.batch))
    machine = Sluggish(program.array, defaultdict(lambda: 1), late=True)
    found = run_on(machine, program, *codes)
    for y, values in zip(found, network.run_all(*codes), strict=True):
        np.testing.assert_array_equal(y, values)


@pytest.mark.parametrize("config", ARRAYS, ids=str)
def test_no_wait_is_too_short(config: ArrayConfig) -> None:
    any_operators = networks(4, also=kinds_of(config), ranges=True)

    @many(60)
    @given(any_operators | depthwise_networks(config) | narrow_maps(config))
    def run(network: IntegerNetwork) -> None:
        check(compile(network, config))

    run()


@pytest.mark.slow
def test_no_wait_of_attention_is_too_short() -> None:
    config = ArrayConfig(4, 4, acc_depth=8, attention=True, products=True)

    @many(15)
    @given(encoders_for(config))
    def run(network: IntegerNetwork) -> None:
        check(compile(network, config))

    run()


def test_no_wait_is_too_short_in_little_memory() -> None:
    @many(20)
    @given(tight_programs(ARRAYS[0]))
    def run(program: Program) -> None:
        check(program)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("config", ARRAYS, ids=str)
def test_no_wait_of_a_batch_is_too_short(config: ArrayConfig) -> None:
    @many(30)
    @given(batches(config))
    def run(program: Program) -> None:
        check(program)

    run()


@pytest.mark.slow
def test_no_wait_of_a_batch_with_attention_is_too_short() -> None:
    config = ArrayConfig(4, 4, acc_depth=8, attention=True, products=True)

    @many(5)
    @given(encoders_for(config))
    def run(network: IntegerNetwork) -> None:
        check(compile(network, config, batch=2))

    run()


@pytest.mark.slow
@pytest.mark.parametrize("config", ARRAYS, ids=str)
def test_no_wait_for_what_is_stored_is_too_short(config: ArrayConfig) -> None:
    @many(15)
    @given(spilled_programs(replace(config, spills=True, burst=4, fetch_depth=12)))
    def run(program: Program) -> None:
        check(program)

    run()
