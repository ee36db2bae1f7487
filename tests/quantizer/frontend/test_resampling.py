"""Maps resampled by any ratio are those of PyTorch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nupes.model.errors import UnsupportedError
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from tests.quantizer.close import images
from tests.quantizer.frontend.test_liveness import taken
from tests.quantizer.test_operators import Call

SIZES = {
    "down": (4, 6),
    "up": (12, 18),
    "up and down": (12, 3),
    "by a ratio": (6, 15),
    "columns": (8, 5),
    "not at all": (8, 12),
}
"""Heights and widths that a map 8 x 12 gets."""


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", SIZES)
def test_resampled(name: str, mode: str) -> None:
    module = Call(lambda s, x: F.interpolate(s.a(x), SIZES[name], mode=mode), a=nn.Conv2d(3, 4, 1))
    taken(module, torch.from_numpy(images(2, 3, 8, 12)))


REFUSED = {
    "bicubic resampling must have align_corners=False, not True": lambda x: F.interpolate(
        x, (4, 6), mode="bicubic", align_corners=True
    ),
    "resampling must be by a ratio of small numbers, not from 8 to 67 pixels": lambda x: (
        F.interpolate(x, (67, 12), mode="bicubic")
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(reason: str) -> None:
    module = Call(lambda s, x: REFUSED[reason](s.a(x)), a=nn.Conv2d(3, 4, 1))
    with pytest.raises(UnsupportedError) as caught:
        capture(export_module(module, (2, 3, 8, 12)))
    assert reason in str(caught.value)
