"""Checkpoints: an interrupted quantization that goes on gives the network of one that did not."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nupes.model.codebook import make_codebook
from nupes.model.errors import InputError
from nupes.quantizer import quantize
from nupes.quantizer.checkpoint import Checkpoint, State, fingerprint
from nupes.quantizer.codes.decisions import Choices, WeightCode
from nupes.quantizer.options.recipe import METHODS, Phase
from nupes.quantizer.search.tensors import TensorCode
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


def some_state() -> State:
    """Return progress with every kind of choice, under names as modules may have."""
    rng = np.random.default_rng(0)
    book = make_codebook("power", 3, True, 127, 0.5)
    name = "a/codes/b.keys"
    codes = rng.integers(0, 7, (2, 3, 1, 1)).astype(np.uint8)
    choices = Choices(
        {name: TensorCode(book, 0.5, 0.5, 0.25)},
        {name: WeightCode(book, codes, np.array([0.5, 0.25]))},
        wide={name: 2.5},
        bias={name: rng.normal(size=2)},
        reach={name: 3.0},
    )
    return State(1, 2, choices, choices)


def test_a_state_comes_back_under_any_names(tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path / "checkpoint", "me")
    state = some_state()
    kept.save(state)
    found = kept.load()
    assert fingerprint(found) == fingerprint(state)
    assert (found.step, found.done) == (1, 2)


def test_every_damaged_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    kept = Checkpoint(path, "me")
    kept.save(some_state())
    content = path.read_bytes()
    bits = np.random.default_rng(0).choice(8 * len(content), 400, replace=False)
    for bit in bits.tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=f"checkpoint {path} must be"):
            kept.load()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"step": 1', '"step": 1.5'),
        ('"step": 1', '"step": true'),
        ('"step": 1', '"steps": 1'),
        ('"learned": false', '"learned": 0'),
        ('"scale": 0.5', '"scale": 1e400'),
        ('"scale": 0.5', '"scale": NaN'),
        ('"exponent": 0.5', '"exponent": "0.5"'),
        ('"lmax": 127', '"lmax": [127]'),
        (": 2.5", ": NaN"),
        ('"bits": 3', '"bits": 2'),
        ('"bias": ["a', '"bias": ["b'),
        ('"found": {', '"found": null, "other": {'),
    ],
)
def test_forged_fields_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    kept = Checkpoint(tmp_path / "checkpoint", "me")
    dumps = json.dumps

    def forge(data: object, **options: bool) -> str:
        text = dumps(data, **options)
        assert old in text
        return text.replace(old, new)

    monkeypatch.setattr("nupes.quantizer.checkpoint.json.dumps", forge)
    kept.save(some_state())
    with pytest.raises(InputError, match="must be one that quantize wrote"):
        kept.load()


@pytest.mark.parametrize("codes", [np.full((2, 3, 1, 1), 7, np.uint8), np.zeros((2, 3, 1, 1))])
@pytest.mark.parametrize("scale", [np.ones(3), np.array([1, np.nan]), np.ones(2, np.float32)])
def test_forged_weights_are_refused(tmp_path: Path, codes: np.ndarray, scale: np.ndarray) -> None:
    kept = Checkpoint(tmp_path / "checkpoint", "me")
    state = some_state()
    (name,) = state.choices.weights
    good = state.choices.weights[name]
    for bad in (replace(good, codes=codes), replace(good, scale=scale)):
        state.choices.weights[name] = bad
        kept.save(state)
        with pytest.raises(InputError, match=f"weights of {name} must have"):
            kept.load()


def test_a_foreign_file_is_refused(part: nn.Module, tmp_path: Path) -> None:
    network = quantize(part, "W4A4", images(20, 2, 6, 6), method="rtn")
    path = network.save(tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="format is 'nupes-2'"):
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
