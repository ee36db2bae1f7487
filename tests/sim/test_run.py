"""``Simulator.run``: from a program's parts to a result, with a made-up program on the stub."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Status
from nupes.model.errors import InputError, SimulationError
from nupes.sim import Simulator
from tests.sim.stub import SMALL, echo


@dataclass
class Echo:
    """A program whose network doubles three codes; the accelerator's part is to return them."""

    array: ArrayConfig = SMALL
    image: np.ndarray = field(default_factory=lambda: echo(np.zeros(3, np.uint64)))
    layers: tuple[str, ...] = ("first", "second")
    marked: tuple[int, ...] = (0, 1)
    latency: int = 20
    batch: int = 1
    network: Any = field(
        default_factory=lambda: SimpleNamespace(
            encode_all=lambda images: (images * 2,), scale=lambda results: (results[0] * 0.5,)
        )
    )

    def input_patches(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(1, 4), codes.astype(np.uint64).reshape(-1, 1)

    def outputs(self, raw: np.ndarray) -> tuple[np.ndarray, ...]:
        return (raw[None, :, 0],)


IMAGES = np.arange(12).reshape(4, 3)


def test_run(hardware: Simulator) -> None:
    seen: list[tuple[int, int]] = []
    program: Any = Echo()
    result = hardware.run(program, IMAGES, progress=lambda *counts: seen.append(counts))
    assert result.y.dtype == np.int16
    assert result.y.tolist() == (2 * IMAGES).tolist()
    assert result.outputs.dtype == np.float64
    assert result.outputs.tolist() == IMAGES.tolist()
    assert len(set(result.cycles)) == 1
    assert result.layer_cycles.shape == (4, 2)
    assert result.layer_cycles.sum(axis=1).tolist() == result.cycles
    # The first layer ends with the mark of the second, on the last of three results.
    assert (result.layer_cycles[:, 1] == 2).all()
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_latency_is_the_programs(hardware: Simulator) -> None:
    fast: Any = Echo(latency=5)
    slow: Any = Echo(latency=50)
    cycles = [hardware.run(program, IMAGES[:1]).cycles[0] for program in (fast, slow)]
    assert cycles[1] - cycles[0] == 45


def test_a_program_for_another_array(hardware: Simulator) -> None:
    other: Any = Echo(array=ArrayConfig(rows=8, cols=8))
    with pytest.raises(InputError, match="must be compiled for this simulator's array"):
        hardware.run(other, IMAGES)


def test_an_error_status(hardware: Simulator) -> None:
    broken: Any = Echo(image=np.array([9, 0, 0, 0], np.uint64))
    with pytest.raises(SimulationError, match="ended image 0 with status BAD_INSTRUCTION"):
        hardware.run(broken, IMAGES)
    assert Status.BAD_INSTRUCTION == hardware.execute([9]).status


def test_missing_marks(hardware: Simulator) -> None:
    program: Any = Echo(layers=("one", "two", "three"), marked=(0, 1, 2))
    with pytest.raises(SimulationError, match="marked 2 layers of 3"):
        hardware.run(program, IMAGES)


def test_no_images(hardware: Simulator) -> None:
    program: Any = Echo()
    with pytest.raises(InputError, match="at least one image"):
        hardware.run(program, IMAGES[:0])
