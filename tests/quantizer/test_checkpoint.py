"""Checkpoints: an interrupted quantization that goes on gives the network of one that did not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nupes.model.errors import InputError
from nupes.quantizer import quantize
from nupes.quantizer.checkpoint import Checkpoint, State, fingerprint
from nupes.quantizer.options.recipe import METHODS, Phase
from tests.quantizer.close import images, randomize_norms

RECIPE = replace(
    METHODS["search"],
    steps=("cd",),
    distill=False,  # it comes before the first layer, every time
    phases=(Phase("layer", "soft", steps=6), Phase("network", "straight", steps=6)),
)


def module() -> nn.Module:
    """Return a network with a skip from the start, a pool that copies codes, and a head."""
    torch.manual_seed(0)

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.conv(x) + x)

    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        Skip(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 5),
    ).eval()


@pytest.fixture(scope="module")
def part() -> nn.Module:
    """Return the module with its norms at random."""
    return randomize_norms(module())


class Interrupted(Exception):
    """Stands in for a user who presses Ctrl-C."""


def interrupt_after(count: int) -> Callable[[str, int, int], None]:
    """Return a progress function that interrupts its call number ``count``."""
    calls = 0

    def progress(layer: str, done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls > count:
            raise Interrupted

    return progress


@pytest.mark.parametrize("data", [True, False], ids=["data", "made up"])
def test_going_on_gives_the_same_network(part: nn.Module, tmp_path: Path, data: bool) -> None:
    recipe = RECIPE if data else replace(RECIPE, phases=())
    options: dict = {"input_shape": (2, 6, 6), "input_range": (-1.0, 1.0), "method": recipe}
    calibration = images(60, 2, 6, 6) if data else None
    expected = quantize(part, "W3A3", calibration, **options).save(tmp_path / "whole")
    path = tmp_path / "checkpoint"
    steps = []
    for _ in range(20):
        try:
            progress = interrupt_after(13 if data else 2 + len(steps))
            network = quantize(
                part, "W3A3", calibration, **options, checkpoint=path, progress=progress
            )
            break
        except Interrupted:
            steps.append(path.exists())
    assert len(steps) >= 2
    assert any(steps)
    assert network.save(tmp_path / "resumed").read_bytes() == expected.read_bytes()
    assert not path.exists()


def test_finished_layers_are_not_done_again(part: nn.Module, tmp_path: Path) -> None:
    path, x = tmp_path / "checkpoint", images(60, 2, 6, 6)
    with pytest.raises(Interrupted):
        # The search is done, and two of the units of the first phase.
        quantize(
            part, "W3A3", x, method=RECIPE, checkpoint=path, progress=interrupt_after(6 + 2 * 6)
        )
    seen = []
    quantize(
        part,
        "W3A3",
        x,
        method=RECIPE,
        checkpoint=path,
        progress=lambda layer, done, total: seen.append((layer, done, total)),
    )
    assert seen[0][2] != 5  # not the stages of the search
    assert seen[0][1] > 6


def test_if_nothing_is_learned_the_search_has_all_images(part: nn.Module, tmp_path: Path) -> None:
    harm = Phase("network", "straight", codes=20.0, scales=3.0, steps=2)
    recipe = replace(RECIPE, phases=(harm,))
    path, x = tmp_path / "checkpoint", images(60, 2, 6, 6)
    expected = quantize(part, "W3A3", x, method=replace(recipe, phases=()))
    found = quantize(part, "W3A3", x, method=recipe)
    # One search, two steps, and two stages of the other search.
    progress = interrupt_after(6 + 2 + 2)
    with pytest.raises(Interrupted):
        quantize(part, "W3A3", x, method=recipe, checkpoint=path, progress=progress)
    resumed = quantize(part, "W3A3", x, method=recipe, checkpoint=path)
    files = [
        replace(network, metadata={}).save(tmp_path / name).read_bytes()
        for name, network in {"expected": expected, "found": found, "resumed": resumed}.items()
    ]
    assert files[0] == files[1] == files[2]


def test_a_checkpoint_belongs_to_one_quantization(part: nn.Module, tmp_path: Path) -> None:
    path, x = tmp_path / "checkpoint", images(60, 2, 6, 6)
    with pytest.raises(Interrupted):
        quantize(part, "W3A3", x, method=RECIPE, checkpoint=path, progress=interrupt_after(3))
    before = path.read_bytes()
    others = [
        (part, "W4A4", x, RECIPE),
        (part, "W3A3", x + 1e-3, RECIPE),
        (part, "W3A3", x, replace(RECIPE, seed=1)),
        (module(), "W3A3", x, RECIPE),
    ]
    for other, scheme, data, recipe in others:
        with pytest.raises(InputError, match="must belong to this quantization"):
            quantize(other, scheme, data, method=recipe, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"nonsense", None], ids=["empty", "text", "cut"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "checkpoint"
    Checkpoint(path, "me").save(State())
    path.write_bytes(path.read_bytes()[:-3] if content is None else content)
    with pytest.raises(InputError, match="delete it or name another file"):
        Checkpoint(path, "me").load()


def test_a_foreign_file_is_refused(part: nn.Module, tmp_path: Path) -> None:
    network = quantize(part, "W4A4", images(20, 2, 6, 6), method="rtn")
    path = network.save(tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="format is 'nupes-1'"):
        Checkpoint(path, "me").load()


def test_without_a_path_nothing_is_kept(tmp_path: Path) -> None:
    kept = Checkpoint(None, "me")
    kept.save(State(1, 2))
    assert kept.load().done == 0
    kept.remove()


def test_a_fingerprint_sees_every_field() -> None:
    x = np.arange(6.0)
    values = [x, x + 1, x.astype(np.float32), x.reshape(2, 3), [x], RECIPE, METHODS["rtn"], 1, "1"]
    found = [fingerprint(value) for value in values]
    assert len(set(found)) == len(values)
    assert fingerprint(x.copy(), RECIPE) == fingerprint(x, replace(RECIPE))
