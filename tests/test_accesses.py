"""Every read and write of every memory, and every word at the port: the numbers of the compiler are
those that counters in the Verilog find, for random networks."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.costs import access_bits
from nupes.compiler.program import Program, compile
from nupes.sim.simulator import Simulator
from tests.depthwise import depthwise_networks, narrow_maps
from tests.images import all_images_of
from tests.networks import kinds_of, many, networks, networks_for
from tests.packed import packed_networks
from tests.rtl.counting import counting_verilog, read_counts
from tests.spilled import spilled_programs

ARRAYS = [
    ArrayConfig(4, 4, acc_depth=16, products=True, attention=True, spills=True),
    ArrayConfig(2, 4, code_bits=3, acc_depth=16, mac="pair"),
]


@pytest.fixture(scope="module", params=ARRAYS, ids=str)
def hardware(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """Return a running accelerator that counts."""
    with Simulator(request.param, verilog=counting_verilog(request.param)) as running:
        yield running


def check(hardware: Simulator, program: Program) -> None:
    """Run a program, and compare every number."""
    hardware.run(program, all_images_of(program.network, program.batch))
    assert hardware._running is not None
    found = read_counts(hardware._running[0].directory)
    assert found == program.total_accesses
    assert list(found.reads) == list(access_bits(hardware.config))
    assert found.fetched == len(program.image)


@pytest.mark.slow
@many(25)
@given(st.data())
def test_random_networks(hardware: Simulator, data: st.DataObject) -> None:
    config, several = hardware.config, data.draw(st.booleans())
    made = networks_for(config)  # with codebooks that the cells hold
    if config.mac == "decode":
        kinds = networks(4, also=kinds_of(config), several=several, held=several)
        made = kinds | packed_networks(config) | depthwise_networks(config) | narrow_maps(config)
    check(hardware, compile(data.draw(made), config, batch=data.draw(st.integers(1, 2))))


@pytest.mark.slow
def test_spilled_networks(hardware: Simulator) -> None:
    @many(6)
    @given(spilled_programs(hardware.config))
    def run(program: Program) -> None:
        check(hardware, program)

    if hardware.config.spills:
        run()
