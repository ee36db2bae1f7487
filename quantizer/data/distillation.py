"""Distillation: inputs from which the float network's batch norms see the statistics they promise.

Source: ZeroQ (Cai et al., arXiv 2001.00281): inputs drawn to the means and deviations that batch
norms keep, by gradient through the network.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from nupes.quantizer.stages.operators import column
from nupes.quantizer.stages.run import Hooks, evaluate
from nupes.quantizer.stages.stage import FusedNetwork, Stage

__all__ = ["distill"]

STEPS = 60
"""Steps of gradient descent for each batch."""

BATCH = 64
"""Images of one batch: its statistics over images and pixels are those that are compared."""

IMAGES = 128
"""Most images that are distilled."""

RATE = 0.1
"""Learning rate, in halves of the input's range."""


def distill(
    network: FusedNetwork,
    inputs: Tensor,
    bounds: tuple[float, float],
    progress: Callable[[str, int, int], None] | None = None,
) -> Tensor:
    """Return inputs (n, c, h, w) drawn from the given ones to the network's statistics, within
    bounds; the same where no layer is batch-normalised."""
    if not any(stage.mean is not None for stage in network.stages):
        return inputs
    low, high = bounds
    batches = inputs[:IMAGES].split(BATCH)
    results = []
    for index, batch in enumerate(batches):
        x = ((batch - low) / (high - low) * 2 - 1).requires_grad_(True)
        optimizer = torch.optim.Adam([x], RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for step in range(STEPS):
            optimizer.zero_grad()
            images = (x.clamp(-1, 1) + 1) / 2 * (high - low) + low
            statistics_loss(network, images).backward()
            optimizer.step()
            schedule.step()
            if progress is not None:
                progress("", index * STEPS + step + 1, len(batches) * STEPS)
        results.append((x.detach().clamp(-1, 1) + 1) / 2 * (high - low) + low)
    drawn = torch.cat(results)
    # Both ends of the range occur, as in the inputs given: the input's code covers it.
    drawn.flatten()[0], drawn.flatten()[-1] = low, high
    return drawn


def statistics_loss(network: FusedNetwork, images: Tensor) -> Tensor:
    """Return how far the statistics of each batch-normalised tensor are from its norm's, in
    deviations squared: ``(m - m')^2 / s'^2 + (s / s' - 1)^2``, the mean over channels, summed."""
    hooks = Statistics()
    evaluate(network.stages, {network.input.name: network.scale_input(images)}, hooks)
    return torch.stack(hooks.terms).sum()


class Statistics(Hooks):
    """The float network, and how far it is from what each batch norm promises."""

    def __init__(self) -> None:
        self.terms: list[Tensor] = []

    def shift(self, stage: Stage, y: Tensor) -> Tensor:
        """Add the bias, and compare the value with the stage's statistics."""
        y = super().shift(stage, y)
        if stage.mean is not None and stage.std is not None:
            std, mean = torch.std_mean(y, (0, 2, 3), keepdim=True, unbiased=False)
            expected = column(stage.std).clamp_min(1e-6)
            shift = (mean - column(stage.mean)) / expected
            self.terms.append((shift.square() + (std / expected - 1).square()).mean())
        return y
