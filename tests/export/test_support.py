"""What every export refuses, by name."""

from collections.abc import Callable
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


@pytest.mark.parametrize("format", ["onnx", "qonnx", "firmware"])
def test_every_kind_has_an_export(format: str) -> None:
    module = import_module(f"nupes.export.{format}.operators")
    assert module.EXPORTERS.keys() == OPERATORS.keys()


def test_unknown_kinds_are_refused_by_layer() -> None:
    (layer,) = (item for item in small_joins().layers if item.op.kind == "product")
    with pytest.raises(
        nupes.UnsupportedError,
        match="layer 'gated layer': product cannot be exported to QONNX, which has conv, concat",
    ):
        exporter({"conv": 1, "concat": 2}, layer, "QONNX")
