"""Transformer encoders in exports: ONNX Runtime, the standard's own evaluator, the firmware."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from nupes.export.onnx import build_onnx
from nupes.model.network import IntegerNetwork
from tests.encoders import biased_scores, coded_tokens, transformers
from tests.export.cases import input_codes
from tests.export.test_firmware import check as check_firmware
from tests.export.test_firmware import needs_compiler
from tests.export.test_onnx import check as check_onnx
from tests.images import images_of
from tests.transformers import one_block

ENCODERS = transformers(gates=True)
NETWORKS = st.one_of(ENCODERS, coded_tokens(), biased_scores())


@settings(max_examples=20)
@given(NETWORKS)
def test_random_onnx(network: IntegerNetwork) -> None:
    check_onnx(network, images_of(network, 3))


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_standard_evaluator_agrees() -> None:
    network = one_block()
    codes = input_codes(network, 4)
    evaluator = ReferenceEvaluator(build_onnx(network, "codes"))
    (y,) = evaluator.run(["y"], {"codes": codes.transpose(0, 3, 1, 2).copy()})
    np.testing.assert_array_equal(y, network.run(codes))


@needs_compiler
@settings(max_examples=6)
@given(NETWORKS)
def test_random_firmware(network: IntegerNetwork) -> None:
    check_firmware(
        network, input_codes(network, 3), "-O0", "-fsanitize=undefined,address", "-static-libasan"
    )


@pytest.mark.slow
@needs_compiler
@settings(max_examples=100)
@given(NETWORKS)
def test_many_networks(network: IntegerNetwork) -> None:
    check_onnx(network, images_of(network, 3))
    check_firmware(network, input_codes(network, 3))
