"""Learning: units, targets, and that it never loses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from examples.pretrained.resnet20 import ResNet20
from nupes.model.errors import InputError
from nupes.quantizer import quantize
from nupes.quantizer.codes.decisions import Choices
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.learning.soft import AdaRoundWeight, SoftWeight
from nupes.quantizer.learning.student import Student
from nupes.quantizer.learning.units import (
    divide,
    is_better,
    learn,
    leaving,
    parameter_groups,
    split_images,
)
from nupes.quantizer.options.bits import plan_bits
from nupes.quantizer.options.recipe import METHODS, Phase
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.search.layers import choose
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import run_float, run_quantized
from nupes.quantizer.stages.stage import FusedNetwork
from tests.quantizer.close import images, randomize_norms


class Block(nn.Module):
    """Two convolutions and a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + x)


def module() -> nn.Module:
    """Return a network of a stem, a residual block, a pool and a head."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        Block(6),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 5),
    ).eval()


def network_of(part: nn.Module, size: int) -> FusedNetwork:
    """Return the fused network of a module for inputs (3, size, size)."""
    return fuse(capture(export_module(part, (2, 3, size, size))))


@pytest.fixture(scope="module")
def searched() -> tuple[FusedNetwork, Batch, Choices]:
    """Return a network, inputs, and the choices of rounding to nearest at 3 bits."""
    network = network_of(randomize_norms(module()), 8)
    inputs = Batch((torch.from_numpy(images(200, 3, 8, 8)),))
    plan = plan_bits(network, parse_scheme("W3A3"), None, 8, 8, {})
    return network, inputs, choose(network, inputs, plan, METHODS["rtn"])


def output_loss(network: FusedNetwork, inputs: Batch, choices: Choices) -> float:
    """Return the mean squared error of the output."""
    maps = network.start(inputs)
    last = network.stages[-1].name
    float_output = run_float(network.stages, maps)[last]
    return float(
        (run_quantized(network.stages, choices, maps)[last] - float_output).square().mean()
    )


def test_units_cover_the_network_in_order() -> None:
    network = network_of(ResNet20().eval(), 32)
    for unit in ("layer", "block", "network"):
        stages = [stage for part in divide(network, unit) for stage in part]
        assert stages == list(network.stages)
    blocks = divide(network, "block")
    # The stem, nine residual blocks, the pool and the head.
    assert len(blocks) == 12
    assert [len(block) for block in blocks][1:10] == [2, 2, 2, 3, 2, 2, 3, 2, 2]
    assert [leaving(network, block) for block in blocks] == [[block[-1].name] for block in blocks]


@pytest.mark.parametrize("unit", ["layer", "block", "network"])
@pytest.mark.parametrize("rounding", ["soft", "straight", "adaround"])
def test_learning_brings_the_output_nearer(searched, unit: str, rounding: str) -> None:
    network, inputs, choices = searched
    before = output_loss(network, inputs, choices)
    phase = Phase(unit, rounding, codes=1e-2, steps=60)  # type: ignore[arg-type]
    learned = learn(network, inputs, choices, phase, seed=0)
    after = output_loss(network, inputs, learned)
    assert after <= before if unit == "network" else after < 1.05 * before
    if (unit, rounding) == ("network", "straight"):
        assert after < 0.9 * before
    assert output_loss(network, inputs, choices) == before  # the start is left as it was


def test_what_does_not_help_is_not_kept(searched) -> None:
    network, inputs, choices = searched
    wild = Phase("network", "straight", codes=100.0, scales=3.0, steps=3)
    learned = learn(network, inputs, choices, wild, seed=0)
    assert output_loss(network, inputs, learned) == output_loss(network, inputs, choices)


@pytest.mark.parametrize(
    ("gains", "better"),
    [
        ([0.0, 0.0], False),
        ([-0.1, -0.2, -0.3], False),
        ([0.1], True),
        ([0.2, 0.1, 0.3], True),
        ([9.0, -8.0, 1.0, -1.0], False),
        ([1.0, 0.0], False),  # 1.4 standard errors
        ([2.0, 1.0, 1.0, 0.0], True),  # 2.8
    ],
)
def test_a_gain_has_to_exceed_two_standard_errors(gains: list[float], better: bool) -> None:
    before = torch.full((len(gains),), 10.0)
    assert is_better(before, before - torch.tensor(gains)) == better


def test_a_phase_moves_only_what_it_should(searched) -> None:
    network, inputs, choices = searched
    still = Phase("network", "straight", codes=0, scales=0, exponents=0, biases=1e-2, steps=20)
    learned = learn(network, inputs, choices, still, seed=0)
    moved = 0
    for name, code in choices.weights.items():
        np.testing.assert_array_equal(learned.weights[name].codes, code.codes)
        np.testing.assert_allclose(learned.weights[name].scale, code.scale, rtol=1e-5)
        moved += not np.allclose(learned.bias[name], choices.bias[name])
    assert moved
    frozen = Phase("network", "straight", activations=False, steps=20)
    learned = learn(network, inputs, choices, frozen, seed=0)
    for name, code in choices.tensors.items():
        assert learned.tensors[name].scale == pytest.approx(code.scale, rel=1e-5)


def test_the_same_seed_gives_the_same_network() -> None:
    recipe = replace(METHODS["nupes"], phases=(Phase(steps=5, drop=0.5),))
    part, x = randomize_norms(module()), images(16, 3, 8, 8)
    first, second = (quantize(part, "W3A3", x, method=recipe) for _ in range(2))
    np.testing.assert_array_equal(first(x), second(x))
    assert first.metadata["layers"][1]["weights"]["moved"] >= 0


def test_images_that_judge_are_fitted_by_nothing() -> None:
    seen, judged = split_images(200)
    assert len(seen) == 160
    assert not set(seen.tolist()) & set(judged.tolist())
    assert len(split_images(10_000)[1]) == 512
    few, all_of_them = split_images(20)
    assert few.tolist() == all_of_them.tolist() == list(range(20))


def test_augmented_images_are_learned_from(searched) -> None:
    network, inputs, choices = searched
    seen: list[torch.Tensor] = []

    def mirror(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seen.append(images)
        return images.flip(-1)

    phase = Phase("network", "straight", codes=1e-2, steps=20)
    learned = learn(network, inputs, choices, phase, seed=0, augment=mirror)
    mirrored = learn(network, Batch((inputs.parts[0].flip(-1),)), choices, phase, seed=0)
    assert len(seen) == 20
    # Images are mirrored in every step, and only there: they are judged as they are.
    for name, code in mirrored.weights.items():
        np.testing.assert_array_equal(learned.weights[name].codes, code.codes)
    learn(network, inputs, choices, Phase("block", steps=2), seed=0, augment=mirror)
    assert len(seen) == 20


@pytest.mark.parametrize(
    ("augment", "found"),
    [
        (lambda images, _: images[:, :, 1:], "must return images"),
        (lambda images, _: None, "not NoneType"),
        (lambda images, _: images / 0, "must return finite images"),
    ],
)
def test_augmented_images_are_checked(searched, augment, found: str) -> None:
    network, inputs, choices = searched
    with pytest.raises(InputError, match=found):
        learn(network, inputs, choices, Phase("network", steps=1), seed=0, augment=augment)


class OneDevice(TorchDispatchMode):
    """Refuses operators that mix devices; indices, numbers and copies may lie elsewhere."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        if not name.startswith(("aten.index", "aten._to_copy", "aten.copy_")):
            tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
            devices = {tensor.device.type for tensor in tensors if tensor.ndim}
            assert len(devices) <= 1, f"{name} on {devices}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [SoftWeight, AdaRoundWeight])
@pytest.mark.parametrize("beta", [None, 4.0])
def test_learning_stays_on_its_device(searched, kind: type[SoftWeight], beta: float | None) -> None:
    # A device without values stands in for an accelerator: whatever is left on the CPU shows.
    network, inputs, choices = searched
    maps = {"input": inputs.parts[0][:4].to("meta")}
    student = Student(network, network.stages, choices, exponents=True, kind=kind).to("meta")
    with OneDevice():
        found = student(maps, beta, 0.5, torch.Generator())
        sum(y.square().mean() for y in found.values()).backward()
        found |= run_float(network.stages, maps) | run_quantized(network.stages, choices, maps)
    assert {y.device.type for y in found.values()} == {"meta"}
    assert {p.grad.device.type for p in student.parameters() if p.grad is not None} == {"meta"}


def test_codes_that_are_copied_follow_their_source(searched) -> None:
    network, _, choices = searched
    student = Student(network, network.stages, choices, exponents=True)
    for tensor in student.tensors.values():
        tensor.log_scale.data += 0.1
    learned = student.harden(choices)
    pool = next(stage for stage in network.stages if stage.copies_codes)
    assert learned.tensors[pool.name] is learned.tensors[pool.sources[0]]
    assert learned.tensors[pool.name].scale > choices.tensors[pool.name].scale


def test_a_tensor_keeps_the_code_that_an_earlier_unit_learned(searched) -> None:
    network, _, choices = searched
    units = divide(network, "layer")
    second = next(unit for unit in units if unit[0].residual is not None)
    student = Student(network, second, choices, exponents=True)
    groups = parameter_groups(network, second, student, Phase())
    learned = {id(p) for group in groups for p in group["params"]}
    shared = student.tensors[student.key(second[0].residual)]
    own = student.tensors[student.key(second[0].sources[0])]
    assert id(shared.log_scale) not in learned
    assert id(own.log_scale) in learned


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_what_is_not_finite_is_not_kept(
    searched, monkeypatch: pytest.MonkeyPatch, poison: str
) -> None:
    network, inputs, choices = searched
    forward = Student.forward

    def spoiled(self: Student, *args: object) -> dict[str, torch.Tensor]:
        found = forward(self, *args)
        if poison == "loss":
            return {name: y * torch.nan for name, y in found.items()}
        # The root of zero has an infinite slope.
        return {name: y + (y - y).abs().sqrt() for name, y in found.items()}

    monkeypatch.setattr(Student, "forward", spoiled)
    learned = learn(network, inputs, choices, Phase("network", "straight", steps=3), seed=0)
    assert learned is choices
