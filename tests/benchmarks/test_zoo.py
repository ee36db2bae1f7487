"""Which kind a network is of, by what it calls."""

import pytest
from torch import nn

from benchmarks.zoo import KINDS, kind_of

CONVOLUTIONAL, OTHER = KINDS


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Hardswish()), CONVOLUTIONAL),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)), CONVOLUTIONAL),
        (nn.GroupNorm(2, 4), OTHER),
        (nn.LayerNorm(8), OTHER),
        (nn.Sequential(nn.Flatten(2), nn.LSTM(64, 2)), OTHER),
        (nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(64, 2)), OTHER),
    ],
)
def test_kinds(layer: nn.Module, kind: str) -> None:
    assert kind_of(layer.eval(), (4, 8, 8)) == kind
