"""The integer network is compared with its stages, and a planted defect is named by its layer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nupes.model.errors import NupesError
from nupes.quantizer import pipeline, quantize
from nupes.quantizer.codes.decisions import Choices
from tests.quantizer.close import images, randomize_norms
from tests.quantizer.test_operators import Call, conv


def module() -> nn.Module:
    """Return a network with an addition, a pool and a function with a turning point."""
    torch.manual_seed(0)
    body = Call(lambda s, x: nn.functional.silu(s.a(x) + s.b(x)), a=conv(), b=conv())
    layers = nn.Sequential(body, nn.MaxPool2d(2), nn.BatchNorm2d(6), nn.ReLU(), conv(4, 6, 2))
    return randomize_norms(layers)


X = images(8, 3, 9, 9)


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[Choices], None]) -> None:
    """Let the network be lowered from other choices than it is compared with."""
    lower = pipeline.lower

    def wrong(network: Any, choices: Choices, metadata: Any) -> Any:
        spoiled = choices.copy()
        change(spoiled)
        return lower(network, spoiled, metadata)

    monkeypatch.setattr(pipeline, "lower", wrong)


def one_tap(choices: Choices) -> None:
    """Turn the signs of the weights of one tap of one channel."""
    code = choices.weights["4"]
    codes = code.codes.copy()
    codes[1, :, 0, 0] = len(code.codebook) - 1 - codes[1, :, 0, 0]
    choices.weights["4"] = replace(code, codes=codes)


def one_bias(choices: Choices) -> None:
    """Move a single bias by a few thousandths of the layer's reach."""
    choices.bias["4"] = choices.bias["4"] + np.eye(4)[2] * 5e-3 * choices.reach["4"]


def half_scale(choices: Choices) -> None:
    """Take every weight of a layer by half: a shift that is off by one."""
    code = choices.weights["0.a"]
    choices.weights["0.a"] = replace(code, scale=code.scale / 2)


@pytest.mark.parametrize(
    ("change", "layer"), [(one_tap, "4"), (one_bias, "4"), (half_scale, "0.a")]
)
@pytest.mark.parametrize("scheme", ["W4A4", "W8A8"])
def test_a_wrong_layer_is_named(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Choices], None], layer: str, scheme: str
) -> None:
    spoil(monkeypatch, change)
    with pytest.raises(NupesError, match=f"layer '{layer}': the integers must be those of"):
        quantize(module(), scheme, X, method="rtn")


@pytest.mark.parametrize("scheme", ["W2A2", "W4A4", "W8A8"])
def test_what_is_right_passes(scheme: str) -> None:
    assert quantize(module(), scheme, X, method="rtn").layers
