"""Learning: choices improved by gradient, one unit of the network after another.

Source: NUPES (Yvinec et al., arXiv 2308.05600): codes over the whole space and exponents, learned
jointly against the float network, from inputs as the quantized network gives them.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nupes.model.errors import InputError
from nupes.quantizer.codes.decisions import Choices
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.learning.soft import AdaRoundWeight, SoftWeight, StraightWeight, sharpness
from nupes.quantizer.learning.student import Student
from nupes.quantizer.options.recipe import Phase
from nupes.quantizer.stages.run import Maps, in_chunks, run_float, run_quantized
from nupes.quantizer.stages.stage import FusedNetwork, Stage, weighted

__all__ = ["Augment", "divide", "is_better", "learn", "output_losses", "split_images"]

JUDGED = 512
"""Most images on which a learned solution is judged."""

HELD_OUT = 5
"""One image of so many is kept to judge what is learned; all are used where images are few."""

LOOKS = 5
"""How often straight-through learning is judged; the best that was seen stays."""

FEW = 50
"""Images that are few."""

CLEAR = 2.0
"""Standard errors that a unit's gain must exceed: of several looks at many units, some seem better
by chance."""

SHARPNESS = (20.0, 2.0)
"""First and last exponent of AdaRound's penalty, falling linearly after a fifth of the steps."""

PENALTY = 0.01
"""Weight of AdaRound's penalty, beside a loss that is summed over output channels."""

KINDS = {"soft": SoftWeight, "straight": StraightWeight, "adaround": AdaRoundWeight}
"""Weights by how they are rounded while learning."""

Progress = Callable[[str, int, int], None]

Augment = Callable[[Any, torch.Generator], Any]
"""Other images (b, c, h, w) from images, at random; of several inputs, tuples from tuples."""


def divide(network: FusedNetwork, unit: str) -> list[list[Stage]]:
    """Return the stages as units: layers, blocks, or the network."""
    stages = list(network.stages)
    if unit == "network":
        return [stages]
    if unit == "layer":
        return [[stage] for stage in stages]
    blocks: list[list[Stage]] = [[]]
    for index, stage in enumerate(stages):
        blocks[-1].append(stage)
        read = {name for later in stages[index + 1 :] for name in later.reads}
        alive = read & {*network.entered, *(done.name for done in stages[: index + 1])}
        if alive == {stage.name}:
            blocks.append([])
    return blocks if blocks[-1] else blocks[:-1]


def leaving(network: FusedNetwork, unit: Sequence[Stage]) -> list[str]:
    """Return the tensors of a unit that later stages read; the network's outputs that are there."""
    names = {stage.name for stage in unit}
    readers = network.readers()
    outside = [name for name in names if any(stage not in unit for stage in readers[name])]
    return sorted([*outside, *names.intersection(network.emitted)])


def pick(maps: Maps, names: Iterable[str], images: Tensor | None = None) -> Maps:
    """Return some of the maps, of some images or all."""
    return {name: maps[name] if images is None else maps[name][images] for name in names}


def augmented(augment: Augment, start: Batch, generator: torch.Generator) -> Batch:
    """Return what ``augment`` makes of images, checked; of several inputs it takes and returns
    tuples."""
    several = len(start.parts) > 1
    found = augment(start.parts if several else start.parts[0], generator)
    parts = found if several else (found,)
    if not isinstance(parts, tuple) or len(parts) != len(start.parts):
        raise InputError(
            f"augment must return a tuple of {len(start.parts)} tensors, one for each input, not "
            f"{type(parts).__name__}"
        )
    return Batch(tuple(check_augmented(*pair) for pair in zip(parts, start, strict=True)))


def check_augmented(images: Any, start: Tensor) -> Tensor:
    """Return images that ``augment`` made, checked."""
    if not isinstance(images, Tensor) or images.shape != start.shape:
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"augment must return images {tuple(start.shape)}, not {found}")
    if not bool(torch.isfinite(images).all()):
        raise InputError("augment must return finite images, not NaN or infinity")
    return images.to("cpu", torch.float32)


def split_images(count: int) -> tuple[Tensor, Tensor]:
    """Return the numbers of the images that choices may be fitted to, and of those that judge them;
    the same ones where images are few."""
    numbers = torch.arange(count)
    held = (numbers % HELD_OUT == 0) & (count >= FEW)
    return numbers[~held], (numbers[held] if held.any() else numbers)[:JUDGED]


def losses_of(real: Maps, target: Maps, power: dict[str, float]) -> Tensor:
    """Return for each image (b,) the squared errors of maps, relative to the targets' variances
    ``power``, summed over tensors."""
    terms = [
        (real[name] - target[name]).square().flatten(1).mean(1) / power[name] for name in target
    ]
    return torch.stack(terms).sum(0)


def output_losses(network: FusedNetwork, inputs: Batch, choices: Choices) -> Tensor:
    """Return for each of some inputs (b, c, h, w) the squared error (b,) of the quantized network's
    outputs, relative to the variance of the float network's."""
    maps, outputs = network.start(inputs), network.emitted
    target = in_chunks(partial(run_float, network.stages), maps, outputs)
    found = in_chunks(partial(run_quantized, network.stages, choices), maps, outputs)
    return losses_of(found, target, power_of(target))


def power_of(target: Maps) -> dict[str, float]:
    """Return the variances of maps, 1 where they are constant."""
    return {
        name: (float(values.var()) if values.numel() > 1 else 0.0) or 1.0
        for name, values in target.items()
    }


def is_better(before: Tensor, after: Tensor, errors: float = CLEAR) -> bool:
    """Return whether losses (b,) have become less, by more than some standard errors."""
    gain = before - after
    return bool(gain.mean() > errors * gain.std(unbiased=False) / len(gain) ** 0.5)


def learn(
    network: FusedNetwork,
    inputs: Batch,
    choices: Choices,
    phase: Phase,
    seed: int,
    progress: Progress | None = None,
    *,
    first: int = 0,
    keep: Callable[[int, Choices], None] | None = None,
    augment: Augment | None = None,
    device: torch.device | str = "cpu",
) -> Choices:
    """Return choices that reproduce the float network better, from inputs (n, c, h, w).

    ``progress`` is called with the unit's last layer, steps done and steps in all. ``keep`` is
    called after each unit with the units done and the choices; given as ``first`` and ``choices``,
    learning goes on there. ``augment`` makes other images from those of each step; units that are
    not the whole network do without.
    """
    exact: Maps = {name: x.to(device) for name, x in network.start(inputs).items()}
    real = dict(exact)

    def others(picks: Tensor, generator: torch.Generator) -> Maps:
        assert augment is not None
        images = augmented(augment, inputs[picks], generator)
        return {name: x.to(device) for name, x in network.start(images).items()}

    fresh = others if augment is not None and phase.unit == "network" else None
    units = divide(network, phase.unit)
    for index, unit in enumerate(units):
        later = {name for rest in units[index + 1 :] for stage in rest for name in stage.reads}
        measured = leaving(network, unit)
        target = in_chunks(partial(run_float, unit), exact, measured)

        def report(step: int, label: str = unit[-1].name, done: int = index * phase.steps) -> None:
            if progress is not None:
                progress(label, done + step, len(units) * phase.steps)

        if index >= first:
            choices = learn_unit(network, unit, choices, phase, real, target, seed, report, fresh)
            if keep is not None:
                keep(index + 1, choices)
        found = in_chunks(partial(run_quantized, unit, choices), real, measured)
        exact = {name: maps for name, maps in {**exact, **target}.items() if name in later}
        real = {name: maps for name, maps in {**real, **found}.items() if name in later}
    return choices


def learn_unit(
    network: FusedNetwork,
    unit: Sequence[Stage],
    choices: Choices,
    phase: Phase,
    inputs: Maps,
    target: Maps,
    seed: int,
    report: Callable[[int], None],
    fresh: Callable[[Tensor, torch.Generator], Maps] | None = None,
) -> Choices:
    """Return the choices with those of one unit learned, at the look at which they were best on
    images that were not learned from, or as they were if that is no clear gain, or if the loss or
    what is learned stops being finite.

    ``fresh`` makes what the unit reads from the numbers of images, instead of ``inputs``.
    """
    if not weighted(unit):
        return choices
    needed = {name for stage in unit for name in stage.reads} & set(inputs)
    seen, judged = split_images(len(next(iter(inputs.values()))))
    power = power_of(target)

    def judge(choices: Choices) -> Tensor:
        maps = pick(inputs, needed, judged)
        found = in_chunks(partial(run_quantized, unit, choices), maps, list(target))
        return losses_of(found, pick(target, target, judged), power)

    # While rounding is still soft, hard codes say nothing yet.
    count = LOOKS if phase.rounding == "straight" else 1
    looks = {round(phase.steps * (look + 1) / count) for look in range(count)}
    start = judge(choices)
    best = start.mean(), choices
    kind = KINDS[phase.rounding]
    student = Student(network, unit, choices, exponents=phase.exponents > 0, kind=kind)
    student.to(inputs[unit[0].sources[0]].device)
    groups = parameter_groups(network, unit, student, phase)
    if not groups:
        return choices
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, phase.steps)
    generator = torch.Generator().manual_seed(seed)
    for step in range(phase.steps):
        done = step / phase.steps
        picks = seen[torch.randint(len(seen), (phase.batch,), generator=generator)]
        if fresh is None:
            maps, aims = pick(inputs, needed, picks), pick(target, target, picks)
        else:
            maps = fresh(picks, generator)
            aims = pick(run_float(unit, maps), target)
        found = student(maps, sharpness(done), phase.drop, generator)
        loss = losses_of(found, aims, power).mean()
        if not loss.requires_grad:  # nothing but comparisons between the weights and the results
            report(phase.steps)
            break
        if phase.rounding == "adaround" and done > 0.2:
            steepness = SHARPNESS[0] + (SHARPNESS[1] - SHARPNESS[0]) * (done - 0.2) / 0.8
            loss = loss + PENALTY / unit[-1].shape[2] * student.penalty(steepness)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if not (torch.isfinite(loss) and all_finite(student)):
            report(phase.steps)
            break
        if step + 1 in looks:
            learned = student.harden(choices)
            losses = judge(learned)
            if is_better(start, losses) and losses.mean() < best[0]:
                best = losses.mean(), learned
        report(step + 1)
    return best[1]


def all_finite(student: Student) -> bool:
    """Return whether all that is learned is finite."""
    return all(bool(torch.isfinite(part).all()) for part in student.parameters())


def parameter_groups(
    network: FusedNetwork, unit: Sequence[Stage], student: Student, phase: Phase
) -> list[dict]:
    """Return what a phase learns, with its learning rates.

    Inputs, constants and tensors that units before read keep their codes.
    """
    before = network.stages[: network.stages.index(unit[0])]
    read = {*network.given, *(name for stage in before for name in stage.reads)}
    fixed = {student.key(name) for name in read}
    weights: list[Any] = list(student.weights.values())
    tensors = [module for name, module in student.tensors.items() if name not in fixed]
    learned = weights + (tensors if phase.activations else [])
    levels = [parameter for module in learned for parameter in module.levels.parameters()]
    groups = [
        *({"params": [weight.position], "lr": phase.codes * weight.rate} for weight in weights),
        {"params": [module.log_scale for module in learned], "lr": phase.scales},
        {"params": levels, "lr": phase.exponents},
        {"params": list(student.bias.values()), "lr": phase.biases},
    ]
    return [group for group in groups if group["params"] and group["lr"] > 0]
