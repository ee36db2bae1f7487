"""What every export refuses, by name."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

import nupes
from nupes.export.firmware import build_firmware
from nupes.export.qonnx import build_qonnx
from nupes.export.support import exporter
from nupes.model.operators import OPERATORS
from tests.export.cases import recurrent
from tests.small_joins import small_joins

FORMATS = {"QONNX": build_qonnx, "firmware": build_firmware}


@pytest.mark.parametrize(("format", "build"), FORMATS.items())
def test_state_is_refused(format: str, build: Callable[..., Any]) -> None:
    with pytest.raises(
        nupes.UnsupportedError,
        match=f"state 'before' cannot be exported to {format}, whose runs have no memory",
    ):
        build(recurrent())


TOKENS = {"matmul", "normalize", "subtract_max", "weighted_mean"}

REFUSED = {"onnx": set(), "qonnx": TOKENS, "firmware": set()}
"""Kinds that a format has not."""


@pytest.mark.parametrize("format", REFUSED)
def test_every_kind_has_an_export(format: str) -> None:
    module = import_module(f"nupes.export.{format}.operators")
    assert module.EXPORTERS.keys() | REFUSED[format] == OPERATORS.keys()


def test_negative_multipliers_are_refused() -> None:
    network = small_joins()
    layer = network.layers[0]
    assert layer.post is not None
    tail = layer.post.requantize
    post = replace(layer.post, requantize=replace(tail, mult=-tail.mult))
    with pytest.raises(nupes.UnsupportedError) as error:
        build_qonnx(replace(network, layers=(replace(layer, post=post), *network.layers[1:])))
    assert str(error.value) == (
        "layer 'map layer': mult must not be negative in QONNX; export standard ONNX"
    )


def test_unknown_kinds_are_refused_by_layer() -> None:
    (layer,) = (item for item in small_joins().layers if item.op.kind == "product")
    with pytest.raises(
        nupes.UnsupportedError,
        match="layer 'gated layer': product cannot be exported to QONNX, which has conv, concat",
    ):
        exporter({"conv": 1, "concat": 2}, layer, "QONNX")
