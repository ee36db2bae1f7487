"""The ports of the activation memory, and schedules that no hardware could run."""

from dataclasses import replace

import pytest

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.compiler.emit.descriptors import Descriptor, Results
from nupes.compiler.emit.instructions import Load
from nupes.compiler.timing.ports import ResidualPort, WritePorts
from nupes.compiler.timing.timeline import predict
from nupes.model.errors import SimulationError
from tests.compiler.emit.test_hoisting import load, tile

CONFIG = ArrayConfig(4, 4)


def test_two_planes_are_written_at_once_and_a_single_one_to_its_bank() -> None:
    results = Results(out_step=1, out_planes=3)
    item = replace(tile(4, 9), descriptor=Descriptor(tile(4, 9).descriptor.walk, results))
    ports = WritePorts()
    ports.write(replace(item, out_address=6), 1, range(10, 11))
    assert [ports.free(address, 10) for address in (6, 7)] == [11, 12]
    assert [ports.free(address, 12) for address in (6, 7)] == [12, 12]


def test_results_of_a_grid_occupy_the_banks_of_their_addresses() -> None:
    walk = replace(tile(4, 9).descriptor.walk, out_width=2)
    results = Results(out_step=2, out_row_step=5)
    start = replace(tile(4, 9).start, column=1)
    item = replace(tile(4, 9), descriptor=Descriptor(walk, results), start=start, out_address=6)
    assert [item.result_address(pixel) for pixel in range(4)] == [6, 11, 13, 18]
    ports = WritePorts()
    ports.write(item, 0, range(10, 14))
    assert [ports.free(0, cycle) for cycle in range(10, 14)] == [11, 11, 12, 14]


def test_the_pace_keeps_residual_reads_apart() -> None:
    walk = tile(4, 9).descriptor.walk
    port = ResidualPort(CONFIG)
    port.read(replace(tile(4, 9), descriptor=Descriptor(walk, Results(residual_planes=3))))
    with pytest.raises(SimulationError) as error:
        port.read(replace(tile(4, 9), descriptor=Descriptor(walk, Results(residual_planes=5))))
    assert str(error.value) == ("schedule must read at most 3 residual planes at pace 3, not 5")


def chasing() -> list[Load]:
    """Return the LOAD of the words that a tile chases."""
    return [Load(destination=Destination.ACTIVATION, address=0, words=4)]


def test_a_tile_behind_one_whose_input_is_still_to_come() -> None:
    first = replace(tile(4, 4), chase=0)
    predict([first, *chasing(), tile(4, 4)], CONFIG)
    with pytest.raises(SimulationError) as error:
        predict([first, tile(4, 4), *chasing()], CONFIG)
    assert str(error.value) == "schedule would wait forever: a tile precedes its input"


def test_a_load_that_waits_for_a_tile_whose_input_is_still_to_come() -> None:
    first = replace(tile(4, 4), chase=0)
    table = replace(load(4, user=0, due=1), lag=0)
    predict([first, *chasing(), table], CONFIG)
    with pytest.raises(SimulationError) as error:
        predict([first, table, *chasing()], CONFIG)
    assert str(error.value) == "schedule would wait forever: an instruction precedes the input"
