"""Networks with constants: in files, in every export, and in the second implementation."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import nupes
from nupes.export.firmware import export_firmware
from nupes.model.network import IntegerNetwork
from tests.export.test_firmware import compiled, needs_compiler, run
from tests.export.test_onnx import check_ends
from tests.export.test_qonnx import check as check_qonnx
from tests.images import all_images_of
from tests.model.reference.network import advance
from tests.networks import JOINS, networks
from tests.quantizer.close import images
from tests.test_constants import Several

NETWORKS: st.SearchStrategy[IntegerNetwork] = networks(4, also=JOINS, several=True, held=True)


@settings(max_examples=20)
@given(NETWORKS)
def test_random_networks(network: IntegerNetwork) -> None:
    x = [part.astype(np.float32) for part in all_images_of(network, 2)]
    (codes,) = network.encode_all(*x)
    results = network.run_all(codes)
    for index in range(2):
        found, _ = advance(network, {}, codes[index])
        for one, every in zip(found, results, strict=True):
            np.testing.assert_array_equal(one, every[index].ravel())
    with TemporaryDirectory() as folder:
        loaded = nupes.load(network.save(Path(folder) / "net.safetensors"))
    for one, other in zip(loaded.run_all(codes), results, strict=True):
        np.testing.assert_array_equal(one, other)
    check_ends(network, x)


@needs_compiler
@settings(max_examples=5)
@given(NETWORKS)
def test_random_firmware(network: IntegerNetwork) -> None:
    (x,) = all_images_of(network, 3)
    (codes,) = network.encode_all(x)
    with TemporaryDirectory() as folder:
        export_firmware(network, folder)
        results = run(compiled(Path(folder)), codes)
    expected = np.concatenate([y.reshape(3, -1) for y in network.run_all(codes)], 1)
    np.testing.assert_array_equal(results, expected)


def test_qonnx() -> None:
    x = images(16, 4, 6, 5)
    network = nupes.quantize(Several(), "W4A4", x, method="rtn", codebook="uniform")
    check_qonnx(network, x[:2])
