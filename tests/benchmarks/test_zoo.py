"""Which kind a network is of, by what it calls, and networks of few blocks."""

import pytest
from torch import Tensor, nn

from benchmarks.zoo import KINDS, kind_of, shorten

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


class Last(nn.Module):
    """A module that does not run without its last block."""

    def __init__(self, blocks: list[nn.Sequential]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks[4](x)


def test_shortened_networks() -> None:
    blocks = [nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()) for _ in range(5)]
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(*blocks), nn.Conv2d(4, 2, 1))
    short = shorten(module, 2, (3, 5, 5))
    assert [len(part) for part in (module[1], short[1])] == [5, 2]  # type: ignore[arg-type]
    last = Last(blocks)
    assert shorten(last, 2, (4, 5, 5)) is last
