"""The float side of the search: inputs that are made up have their statistics repaired."""

import torch
from torch import Tensor

from nupes.quantizer.stages.operators import column
from nupes.quantizer.stages.run import Hooks
from nupes.quantizer.stages.stage import Stage

__all__ = ["FloatRun"]


class FloatRun(Hooks):
    """The float network, repaired; ``product`` and ``largest`` are of the last stage that ran."""

    def __init__(self, repair: bool) -> None:
        self.repair = repair
        self.product = torch.zeros(0)
        self.largest = 0.0
        self.correction: tuple[Tensor, Tensor] | None = None

    def shift(self, stage: Stage, y: Tensor) -> Tensor:
        """Add the bias, and repair the statistics."""
        self.product = y
        y = super().shift(stage, y)
        repaired = self.repair and stage.mean is not None
        self.correction = repair_statistics(y, stage) if repaired else None
        return self.repaired(y)

    def repaired(self, y: Tensor) -> Tensor:
        """Return values of the same stage, shifted and scaled like those of this run."""
        if self.correction is None:
            return y
        gain, shift = self.correction
        return y * gain + shift

    def observe(self, stage: Stage, y: Tensor) -> None:
        """Keep the largest magnitude."""
        self.largest = float(y.abs().max())


def repair_statistics(y: Tensor, stage: Stage) -> tuple[Tensor, Tensor]:
    """Return the gain and shift per channel that give ``y`` the stage's mean and deviation."""
    assert stage.mean is not None
    assert stage.std is not None
    std, mean = torch.std_mean(y, (0, 2, 3), keepdim=True, unbiased=False)
    gain = torch.where(std > 1e-6, column(stage.std) / std.clamp_min(1e-6), torch.ones_like(std))
    return gain, column(stage.mean) - mean * gain
