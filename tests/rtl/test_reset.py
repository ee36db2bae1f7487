"""A reset in mid-run leaves nothing of the run behind."""

from typing import Any

import pytest
from amaranth.hdl import Elaboratable, ResetInserter, Signal
from amaranth.lib import wiring

from nupes.arch.config import ArrayConfig
from nupes.rtl.datapath.datapath import Datapath
from nupes.rtl.datapath.max_pool import PoolUnit
from nupes.rtl.interface import FeedControl, PoolControl, WordControl
from tests.rtl.testbench import simulate

CONFIG = ArrayConfig(rows=2, cols=2, acc_depth=4, param_slots=2, tensor_bits=4)


class WithReset(Elaboratable):
    """A component and a signal that resets it."""

    def __init__(self, component: wiring.Component) -> None:
        self.component = component
        self.reset = Signal()

    def elaborate(self, platform: object) -> Any:
        return ResetInserter(self.reset)(self.component)


def everything(layout: Any) -> int:
    """Return the value of a structure whose bits are all set."""
    return (1 << layout.size) - 1


def valid_results(cycles: list[dict]) -> list[int]:
    """Return bit ``valid`` of the result control in every cycle."""
    name = "component.result_control"
    cycles = [*cycles, {"component.control": 0}]
    device = WithReset(Datapath(CONFIG))
    return [bits & 1 for bits in simulate(device, cycles, (name,), CONFIG.issue_to_write)[name]]


@pytest.mark.parametrize("before", [1, 3, 12])
def test_no_word_survives(before: int) -> None:
    busy = {
        "component.control": everything(WordControl(CONFIG)),
        "component.feed": everything(FeedControl(CONFIG)),
    }
    cycles = [busy] * before + [dict.fromkeys(busy, 0) | {"reset": 1}, {"reset": 0}]
    assert not any(valid_results(cycles))
    assert sum(valid_results([busy] * before)) == before


@pytest.mark.parametrize("before", [1, 2])
def test_no_maximum_survives(before: int) -> None:
    busy = {"component.control": everything(PoolControl())}
    cycles = [busy] * before + [dict.fromkeys(busy, 0) | {"reset": 1}, {"reset": 0}]
    device = WithReset(PoolUnit(CONFIG))
    assert not any(simulate(device, cycles, ("component.valid",), idle=4)["component.valid"])
