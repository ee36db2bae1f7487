"""Checks of the float network on the calibration inputs, before anything is searched for.

What is refused here would be refused after the search anyway, or would quantize to nonsense.
"""

import numpy as np
import torch
from torch import Tensor

from nupes.model.arithmetic import Y_RANGE
from nupes.model.errors import InputError
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.functions import IDENTITY, Function, build_encoder
from nupes.quantizer.lowering.layers import HEADROOM
from nupes.quantizer.options.bits import BitPlan
from nupes.quantizer.options.recipe import Recipe
from nupes.quantizer.search.tensors import choose_activations
from nupes.quantizer.stages.run import CHUNK, Hooks, evaluate
from nupes.quantizer.stages.stage import FusedNetwork, Stage

__all__ = ["check_float_run", "turning_points"]

GRID = 4097
"""Points at which turning points are looked for."""

SAMPLE = 100_000
"""Pre-activations that are kept of a stage whose function has several turning points."""


def check_float_run(network: FusedNetwork, inputs: Batch, plan: BitPlan, recipe: Recipe) -> None:
    """Refuse a float network whose values are not finite on the inputs (n, c, h, w), or whose
    functions no encoder holds; the layer is named."""
    hooks = Checked()
    with torch.no_grad():
        for chunk in inputs.split(CHUNK):
            evaluate(network.stages, network.start(chunk), hooks, keep=())
    for stage in network.stages:
        if stage.function is IDENTITY or stage.name in network.emitted:
            continue
        values = hooks.kept[stage.name]
        reach = HEADROOM * max(float(values.abs().max()), 1e-30)
        if turning_points(stage.function, reach) > 1:
            results, bits = stage.function.apply(values).numpy(), plan.tensors[stage.name]
            code = choose_activations(results, bits, stage.low < 0, recipe)
            # It refuses a function whose codes change too often.
            where, scale = f"layer {stage.name!r}", reach / Y_RANGE[1]
            build_encoder(stage.function, scale, code.codebook, code.scale, where)


class Checked(Hooks):
    """The float network; every value must be finite. Of pre-activations a sample is ``kept`` where
    a function follows."""

    def __init__(self) -> None:
        self.kept: dict[str, Tensor] = {}

    def read(self, name: str, values: Tensor) -> Tensor:
        """Refuse NaN and infinity in what is stored."""
        return check_finite(name, values)

    def observe(self, stage: Stage, y: Tensor) -> None:
        """Refuse NaN and infinity before the function, and keep a sample of the first images."""
        check_finite(stage.name, y)
        if stage.name not in self.kept and stage.function is not IDENTITY:
            flat = y.flatten()
            self.kept[stage.name] = flat[:: len(flat) // SAMPLE + 1].clone()


def check_finite(name: str, values: Tensor) -> Tensor:
    """Return the values of a stage; refuse those that are not finite."""
    if not bool(torch.isfinite(values).all()):
        raise InputError(
            f"layer {name!r}: float values must be finite on the calibration inputs, not NaN or "
            "infinite; check the module and the scale of the inputs"
        )
    return values


def turning_points(function: Function, reach: float) -> int:
    """Return how often a function changes its direction between ``-reach`` and ``reach``."""
    values = function(np.linspace(-reach, reach, GRID))
    steps = np.diff(values)
    moved = steps[np.abs(steps) > 1e-9 * max(1e-30, np.ptp(values))]
    return int((np.sign(moved[1:]) != np.sign(moved[:-1])).sum())
