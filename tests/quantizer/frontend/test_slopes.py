"""PReLU: one function, or convolutions of both signs."""

import numpy as np
import pytest
import torch
from torch import nn

from nupes.model.errors import UnsupportedError
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse
from tests.quantizer.test_operators import conv

SHAPE = (2, 3, 10, 9)


def test_equal_slopes_are_one_function() -> None:
    graph = capture(export_module(nn.Sequential(conv(), nn.PReLU(6)), SHAPE))
    assert [node.name for node in graph.nodes.values()] == ["input", "0", "1"]


def test_both_signs_are_a_convolution_of_twice_the_channels() -> None:
    module = nn.Sequential(conv(), nn.PReLU(6), conv(4, 6))
    nn.init.uniform_(module[1].weight, 0, 1)
    stages = fuse(capture(export_module(module, SHAPE))).stages
    assert [stage.shape[2] for stage in stages] == [12, 4]
    assert [stage.function.name for stage in stages] == ["relu", "identity"]


def test_the_negative_half_reaches_as_far_as_the_result() -> None:
    module = nn.Sequential(conv(), nn.PReLU(6), conv(4, 6))
    slopes = torch.tensor([0.1, -0.2, 0.0, 1.5, 0.3, 0.4])
    module[1].weight.data = slopes
    first, _ = fuse(capture(export_module(module, SHAPE))).stages
    assert first.gain is not None
    weights = first.op.weight.reshape(6, 2, -1) * first.gain.reshape(6, 2, 1)  # type: ignore[attr-defined]
    ratios = np.abs(weights[:, 1]).max(1) / np.abs(weights[:, 0]).max(1)
    np.testing.assert_allclose(ratios, slopes.abs().numpy(), atol=1e-6)


def test_slopes_of_a_flattened_map_are_refused() -> None:
    module = nn.Sequential(conv(), nn.Flatten(), nn.PReLU(336))
    nn.init.uniform_(module[2].weight, 0, 1)
    with pytest.raises(UnsupportedError, match="PReLU of a flattened map is not supported; put it"):
        capture(export_module(module, SHAPE))
