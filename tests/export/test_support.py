"""What every export refuses, by name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nupes
from nupes.export.firmware import build_firmware
from nupes.export.onnx import build_onnx
from nupes.export.qonnx import build_qonnx
from nupes.export.support import exporter
from nupes.model.network import State
from nupes.model.operators import OPERATORS
from tests.assemble import coded
from tests.small_joins import small_joins

FORMATS = {"ONNX": build_onnx, "QONNX": build_qonnx, "firmware": build_firmware}


@pytest.mark.parametrize(("format", "build"), FORMATS.items())
def test_state_is_refused(format: str, build: Callable[..., Any]) -> None:
    network = small_joins()
    tensor = network.tensors["map"]
    before = coded("before", tensor.shape, tensor.codebook, tensor.scale)
    state = State(before, "map", np.zeros(tensor.shape, np.uint8))
    with pytest.raises(
        nupes.UnsupportedError,
        match=f"state 'before' cannot be exported to {format}, whose runs have no memory",
    ):
        build(replace(network, state=(state,)))


@pytest.mark.parametrize("format", ["onnx", "qonnx", "firmware"])
def test_every_kind_has_an_export(format: str) -> None:
    module = pytest.importorskip(f"nupes.export.{format}.operators")
    assert module.EXPORTERS.keys() == OPERATORS.keys()


def test_unknown_kinds_are_refused_by_layer() -> None:
    (layer,) = (item for item in small_joins().layers if item.op.kind == "product")
    with pytest.raises(
        nupes.UnsupportedError,
        match="layer 'gated layer': product cannot be exported to QONNX, which has conv, concat",
    ):
        exporter({"conv": 1, "concat": 2}, layer, "QONNX")
