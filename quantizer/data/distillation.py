"""Distillation: inputs from which the float network's batch norms see the statistics they promise.

Source: ZeroQ (Cai et al., arXiv 2001.00281): inputs drawn to the means and deviations that batch
norms keep, by gradient through the network.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.data.calibration import Range
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
    inputs: Batch,
    ranges: Sequence[Range],
    progress: Callable[[str, int, int], None] | None = None,
) -> Batch:
    """Return inputs (n, c, h, w) drawn from the given ones to the network's statistics, each within
    its range; the same where no layer is batch-normalised."""
    if not any(stage.mean is not None for stage in network.stages):
        return inputs
    batches = inputs[:IMAGES].split(BATCH)
    results = []
    for index, batch in enumerate(batches):
        pairs = list(zip(batch, ranges, strict=True))
        drawn = [((x - low) / (high - low) * 2 - 1).requires_grad_() for x, (low, high) in pairs]
        optimizer = torch.optim.Adam(drawn, RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for step in range(STEPS):
            optimizer.zero_grad()
            statistics_loss(network, into_ranges(drawn, ranges)).backward()
            optimizer.step()
            schedule.step()
            if progress is not None:
                progress("", index * STEPS + step + 1, len(batches) * STEPS)
        results.append(into_ranges([x.detach() for x in drawn], ranges))
    parts = tuple(torch.cat(parts) for parts in zip(*results, strict=True))
    for values, ends in zip(parts, ranges, strict=True):
        # Both ends of the range occur, as in the inputs given: the input's code covers it.
        values.flatten()[0], values.flatten()[-1] = ends
    return Batch(parts)


def into_ranges(values: Sequence[Tensor], ranges: Sequence[Range]) -> Batch:
    """Return inputs whose values between -1 and 1 are spread over their ranges."""
    pairs = zip(values, ranges, strict=True)
    return Batch(tuple((x.clamp(-1, 1) + 1) / 2 * (high - low) + low for x, (low, high) in pairs))


def statistics_loss(network: FusedNetwork, images: Batch) -> Tensor:
    """Return how far the statistics of each batch-normalised tensor are from its norm's, in
    deviations squared: ``(m - m')^2 / s'^2 + (s / s' - 1)^2``, the mean over channels, summed."""
    hooks = Statistics()
    evaluate(network.stages, network.start(images), hooks)
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
