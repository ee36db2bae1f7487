"""Distilled inputs: nearer to the statistics of batch norms, in range, the same every time."""

import torch
from torch import nn

from nupes.quantizer.data.calibration import synthesize_inputs
from nupes.quantizer.data.distillation import BATCH, distill, statistics_loss
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.stage import FusedNetwork
from tests.quantizer.close import randomize_norms

BOUNDS = (-1.0, 2.0)


def network(norms: bool) -> FusedNetwork:
    """Return two convolutions, with batch norms or without."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]
    kept = [layer for layer in layers if norms or not isinstance(layer, nn.BatchNorm2d)]
    module = nn.Sequential(*kept, nn.Flatten(), nn.Linear(16, 3)).eval()
    return fuse(capture(export_module(randomize_norms(module), (2, 2, 8, 8))))


def test_statistics_come_nearer() -> None:
    fused, start = network(norms=True), synthesize_inputs(((2, 8, 8),), [BOUNDS])
    seen: list[tuple[int, int]] = []
    found = distill(fused, start, [BOUNDS], lambda _, done, total: seen.append((done, total)))
    for batch in range(0, len(found), BATCH):
        part = slice(batch, batch + BATCH)
        after = float(statistics_loss(fused, found[part]))
        assert after < 0.5 * float(statistics_loss(fused, start[part]))
    (drawn,) = found
    assert drawn.min() == BOUNDS[0]
    assert drawn.max() == BOUNDS[1]
    assert seen[-1][0] == seen[-1][1] == len(seen)
    assert torch.equal(drawn, distill(fused, start, [BOUNDS]).parts[0])


def test_without_norms_inputs_stay() -> None:
    start = synthesize_inputs(((2, 8, 8),), [BOUNDS])
    assert distill(network(norms=False), start, [BOUNDS]) is start


def test_the_loss_is_zero_where_the_statistics_are_those_promised() -> None:
    fused = network(norms=True)
    images = synthesize_inputs(((2, 8, 8),), [BOUNDS])
    first = fused.stages[0]
    assert first.mean is not None
    assert first.std is not None
    with torch.no_grad():
        y = nn.functional.conv2d(
            fused.start(images)["input"], torch.from_numpy(first.op.weight).float(), padding=1
        ) + torch.from_numpy(first.bias).float().reshape(1, -1, 1, 1)
        std, mean = torch.std_mean(y, (0, 2, 3), unbiased=False)
        first.mean[:], first.std[:] = mean.numpy(), std.numpy()
        alone = FusedNetwork(**{**vars(fused), "stages": fused.stages[:1]})
        assert float(statistics_loss(alone, images)) < 1e-6
        first.mean[:] += 2 * first.std
        assert abs(float(statistics_loss(alone, images)) - 4.0) < 1e-3
