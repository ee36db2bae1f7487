"""Encoders against the function and the quantizer, for every ``y``."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nupes.model.arithmetic import Y_RANGE, encode
from nupes.model.codebook import Codebook, make_codebook
from nupes.model.errors import UnsupportedError
from nupes.quantizer.codes.candidates import offset_uniform, two_sided_power
from nupes.quantizer.frontend.functions import (
    IDENTITY,
    Function,
    build_encoder,
    compose,
    scalar_affine,
)

ALL = [
    IDENTITY,
    Function("relu", torch.relu, 0.0),
    Function("relu6", F.relu6, 0.0, 6.0),
    Function("silu", F.silu, -0.3),
    Function("gelu", F.gelu, -0.2),
    Function("tanh", torch.tanh, -1.0, 1.0),
    Function("hardswish", F.hardswish, -0.4),
    Function("mish", F.mish, -0.4),
    Function("abs", torch.abs, 0.0),
    Function("clamp", lambda x: x.clamp(-0.5, 2.0), -0.5, 2.0),
    Function("leaky_relu", lambda x: F.leaky_relu(x, 0.1)),
    Function("floor", torch.floor),
    scalar_affine(-0.5, 0.25),
]

Y = np.arange(Y_RANGE[0], Y_RANGE[1] + 1)


@st.composite
def codebooks(draw: st.DrawFn) -> Codebook:
    """Draw a codebook of a stored tensor."""
    bits = draw(st.integers(2, 8))
    below = draw(st.integers(0, 2**bits - 2))
    exponent = draw(st.floats(0.25, 1.2))
    signed = draw(st.booleans())
    kind = draw(st.sampled_from(["uniform", "power", "offset", "two-sided"]))
    if kind == "offset":
        return offset_uniform(bits, below)
    if kind == "two-sided":
        return two_sided_power(bits, below, exponent)
    if kind == "uniform":
        return make_codebook("uniform", bits, signed)
    return make_codebook("power", bits, signed, 127 if signed else 255, exponent)


@settings(max_examples=40)
@given(st.sampled_from(ALL), codebooks(), st.floats(1e-6, 1e-2), st.floats(1e-3, 1.0))
def test_encoder_is_the_function_and_the_quantizer(
    function: Function, codebook: Codebook, y_scale: float, scale: float
) -> None:
    encoder = build_encoder(function, y_scale, codebook, scale, "layer 'a'")
    found = codebook.levels[encode(Y, encoder.thresholds, encoder.codes)] * scale
    value = function(Y * y_scale)
    nearest = np.abs(value[:, None] - codebook.levels * scale).min(axis=1)
    np.testing.assert_allclose(np.abs(found - value), nearest, rtol=1e-9, atol=1e-12)
    assert len(encoder.thresholds) <= 2 ** (codebook.bits + 1) - 1
    assert (np.diff(encoder.thresholds.astype(int)) > 0).all()


def test_too_many_turning_points_are_refused_by_name() -> None:
    wave = Function("sine", torch.sin)
    codebook = make_codebook("uniform", 4, True)
    message = "layer 'a': function 'sine' must need at most 31 thresholds at 4 bits, not"
    with pytest.raises(UnsupportedError, match=message):
        build_encoder(wave, 0.01, codebook, 1 / 7, "layer 'a'")


def test_composition_applies_the_inner_function_first() -> None:
    relu, tanh = Function("relu", torch.relu), Function("tanh", torch.tanh)
    function = compose(relu, tanh)
    assert function.name == "relu(tanh)"
    x = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(function(x), np.maximum(np.tanh(x), 0))
    assert compose(IDENTITY, tanh) is tanh
    assert compose(tanh, IDENTITY) is tanh


@pytest.mark.parametrize(
    ("scale", "shift", "name"),
    [(1.0, 0.5, "x + 0.5"), (-2.0, 0.0, "-2.0 * x"), (3.0, 1.0, "3.0 * x + 1.0")],
)
def test_scalar_affines_are_named_by_their_numbers(scale: float, shift: float, name: str) -> None:
    function = scalar_affine(scale, shift)
    assert function.name == name
    np.testing.assert_array_equal(
        function(np.array([-1.0, 0.0, 2.0])), scale * np.array([-1.0, 0, 2]) + shift
    )
