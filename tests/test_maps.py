"""Pools of any windows, upsampling and paddings: from PyTorch to the RTL."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nupes
from tests.quantizer.test_operators import Call, conv
from tests.whole import run_whole

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "uncounted padding": lambda: nn.Sequential(
        conv(), nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), conv(5, 6, 2)
    ),
    "adaptive pools": lambda: Call(
        lambda s, x: s.b(s.average(s.a(x)) + s.largest(s.a(x))),
        a=conv(),
        b=conv(4, 6, 1),
        average=nn.AdaptiveAvgPool2d((3, 4)),
        largest=nn.AdaptiveMaxPool2d((3, 4)),
    ),
    "upsampling": lambda: Call(
        lambda s, x: s.c(F.interpolate(torch.relu(s.a(x)), scale_factor=2) + s.b(x.flip(3))),
        a=conv(5, stride=2, padding=1),
        b=nn.Sequential(nn.ReflectionPad2d((0, 2, 1, 1)), conv(5)),
        c=conv(2, 5, padding=1, padding_mode="circular"),
    ),
    "transposed convolutions": lambda: nn.Sequential(
        conv(5, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(5, 6, 3, 2, padding=1, output_padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 2, 4, (3, 2), padding=(1, 0), groups=2),
    ),
    "bilinear": lambda: nn.Sequential(
        conv(4, stride=2, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2, mode="bilinear")
    ),
    "pixel shuffles": lambda: nn.Sequential(
        nn.PixelUnshuffle(2),
        conv(12, 12, padding=1, padding_mode="replicate"),
        nn.ReLU(),
        nn.PixelShuffle(2),
    ),
    "means": lambda: Call(
        lambda s, x: (
            s.b(s.a(x).mean(2, keepdim=True)).amax(3, keepdim=True)
            + s.a(x).mean((1, 2, 3), keepdim=True)
        ),
        a=conv(),
        b=conv(1, 6, 1),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("method", "scheme"), [("rtn", "W8A8"), ("search", "W4A4")])
def test_maps_are_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], name: str, method: str, scheme: str
) -> None:
    run_whole(running, NETWORKS[name], (3, 10, 8), scheme, method)
