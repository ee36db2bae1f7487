"""Float networks that cannot be quantized are refused before the search, by their layer."""

import pytest
import torch
from torch import nn

from nupes.model.errors import InputError, UnsupportedError
from nupes.quantizer import pipeline, quantize
from nupes.quantizer.frontend.functions import FUNCTIONS, Function, compose
from nupes.quantizer.measure.float_run import turning_points
from tests.quantizer.close import images
from tests.quantizer.test_operators import Call, conv

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
    with pytest.raises(InputError, match="layer '2': float values must be finite on the calibr"):
        quantize(module, "W4A4", X + 2, method=method)


@pytest.mark.usefixtures("no_search")
def test_a_function_that_turns_often_is_refused_before_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wave = Function("wave", lambda x: torch.sin(9 * x), -1.0, 1.0)
    monkeypatch.setitem(FUNCTIONS, "silu", wave)
    module = Call(lambda s, x: s.b(nn.functional.silu(s.a(x))), a=conv(), b=conv(4, 6))
    with pytest.raises(UnsupportedError, match="layer 'a': function 'wave' must need at most 31"):
        quantize(module, "W4A4", X, ends=None)


@pytest.mark.parametrize(
    ("name", "count"), [("relu", 0), ("tanh", 0), ("silu", 1), ("hardswish", 1)]
)
def test_turning_points_are_counted(name: str, count: int) -> None:
    assert turning_points(FUNCTIONS[name], 8.0) == count
    bump = compose(Function("abs", torch.abs), FUNCTIONS["silu"])
    assert turning_points(bump, 8.0) == 2
