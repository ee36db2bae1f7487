"""Float networks that cannot be quantized are refused before the search, by their layer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nupes.model.errors import InputError, UnsupportedError
from nupes.quantizer import pipeline, quantize
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.measure.float_run import turning_points
from nupes.quantizer.stages.stage import FusedNetwork
from tests.quantizer.close import images
from tests.quantizer.test_operators import conv

X = images(4, 3, 8, 8)


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a search begins."""
    monkeypatch.setattr(pipeline, "choose", lambda *_, **__: pytest.fail("a search began"))


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("method", ["rtn", "search"])
def test_a_network_that_overflows_is_refused(method: str) -> None:
    module = nn.Sequential(conv(), nn.ReLU(), conv(4, 6))
    with torch.no_grad():
        module[0].weight.fill_(1e20)
        module[2].weight.fill_(1e20)
    with pytest.raises(
        InputError, match="layer '2': its float values must be finite, not overflow"
    ):
        quantize(module, "W4A4", X + 2, method=method)


@pytest.mark.usefixtures("no_search")
def test_a_function_that_turns_often_is_refused_before_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wave = Function("wave", lambda x: torch.sin(9 * x), -1.0, 1.0)
    capture_network = pipeline.capture_network

    def capture_wave(*arguments: Any) -> tuple[FusedNetwork, Any, Any]:
        network, program, inputs = capture_network(*arguments)
        first, last = network.stages
        stages = replace(first, function=wave, low=-1.0), last
        return replace(network, stages=stages), program, inputs

    monkeypatch.setattr(pipeline, "capture_network", capture_wave)
    module = nn.Sequential(conv(), nn.ReLU(), conv(4, 6))
    with pytest.raises(UnsupportedError, match="layer '0': function 'wave' must need at most 31"):
        quantize(module, "W4A4", X, ends=None)


@pytest.mark.parametrize(
    ("apply", "count"),
    [
        (torch.relu, 0),
        (torch.tanh, 0),
        (nn.functional.silu, 1),
        (torch.abs, 1),
        (lambda x: nn.functional.silu(x).abs(), 2),
    ],
)
def test_turning_points_are_counted(apply: Callable[[Tensor], Tensor], count: int) -> None:
    assert turning_points(Function("f", apply), 8.0) == count
