"""What is written: every integer, equal files for equal networks, nothing left behind."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from safetensors import safe_open

from nupes.model.artifact.reader import load
from nupes.model.artifact.writer import network_bytes
from nupes.model.errors import ArtifactError
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from tests.images import images_of
from tests.model.artifact.files import flat
from tests.model.joined import codes_for, joined_network
from tests.model.tiny import tiny_network
from tests.networks import JOINS, networks


@settings(max_examples=60)
@given(networks(also=JOINS, ranges=True))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, network: IntegerNetwork) -> None:
    path = tmp_path_factory.mktemp("artifact") / "net.safetensors"
    assert network.save(path) == path
    again = load(path)
    assert flat(again) == flat(network)
    codes = network.encode(images_of(network, 1))
    np.testing.assert_array_equal(again.run(codes), network.run(codes))
    with safe_open(path, framework="numpy") as handle:
        for index, layer in enumerate(network.layers):
            if isinstance(layer.op, Conv):
                packed = handle.get_tensor(f"layers.{index}.op.codes")
                assert packed.size == -(-layer.op.codes.size * layer.op.codebook.bits // 8)


def test_round_trip_of_all_that_a_graph_can_have(tmp_path: Path) -> None:
    network = joined_network()
    again = load(network.save(tmp_path / "net.safetensors"))
    assert flat(again) == flat(network)
    codes = codes_for(network, 3)
    for y, same in zip(network.run_all(*codes), again.run_all(*codes), strict=True):
        np.testing.assert_array_equal(y, same)


def test_equal_networks_give_equal_files(tmp_path: Path) -> None:
    files = {network_bytes(tiny_network()) for _ in range(8)}
    assert len(files) == 1
    path = tiny_network().save(tmp_path / "net.safetensors")
    assert files == {path.read_bytes(), network_bytes(load(path))}


def test_the_file_is_what_numerics_md_says(tmp_path: Path) -> None:
    path = tiny_network().save(tmp_path / "net.safetensors")
    with safe_open(path, framework="numpy") as handle:
        header = handle.metadata()
        types = {name: handle.get_tensor(name).dtype.name for name in handle.keys()}
    assert set(header) == {"format", "graph", "digest"}
    graph = json.loads(header["graph"])
    assert set(graph) == {"inputs", "layers", "outputs", "state", "constants", "metadata"}
    layer = graph["layers"][1]
    book = {
        "levels": [16], "bits": 4, "family": "uniform", "signed": False, "lmax": None,
        "exponent": None,
    }  # fmt: skip
    port = {"tensor": "a", "first": 0, "channels": None, "first_row": 0, "rows": None}
    assert layer == {
        "name": "two",
        "op": {
            "kind": "conv", "codes": [2, 2, 1, 1], "scale": [2], "stride": [1, 1],
            "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1,
            "codebook": {
                "levels": [7], "bits": 3, "family": "power", "signed": True, "lmax": 127,
                "exponent": 0.5,
            },
        },
        "inputs": [port],
        "output": {
            "name": "b", "shape": [4, 4, 2],
            "format": {"kind": "coded", "codebook": book, "scale": 0.5},
        },
        "post": {
            "requantize": {"mult": [2], "bias": [2], "shift": [2]},
            "residual": {"port": port, "mult": 1, "shift": 1},
            "encoder": {"kind": "table", "thresholds": [15], "codes": [16]},
        },
    }  # fmt: skip
    assert graph["outputs"] == [{"tensor": "y", "shape": [3]}]
    assert graph["metadata"] == {"scheme": "W3A4"}
    own = {
        "op.codes": "uint8", "op.scale": "float64", "op.codebook.levels": "int16",
        "post.requantize.mult": "int32", "post.requantize.bias": "int64",
        "post.requantize.shift": "int32",
    }  # fmt: skip
    stored = {
        "output.format.codebook.levels": "int16", "post.encoder.thresholds": "int16",
        "post.encoder.codes": "uint8",
    }  # fmt: skip
    assert types == (
        {
            "inputs.0.encoder.thresholds": "float64",
            "inputs.0.tensor.format.codebook.levels": "int16",
            "layers.2.output.format.codebook.levels": "int16",
        }
        | {f"layers.{i}.{name}": kind for i in (0, 1, 3) for name, kind in own.items()}
        | {f"layers.{i}.{name}": kind for i in (0, 1) for name, kind in stored.items()}
    )


def test_saving_replaces_a_file_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"old")
    tiny_network().save(path)
    assert flat(load(path)) == flat(tiny_network())
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_path(tmp_path: Path) -> None:
    path = tmp_path / "none" / "net.safetensors"
    with pytest.raises(ArtifactError, match=f"output path {path} must be writable"):
        tiny_network().save(path)
    assert list(tmp_path.iterdir()) == []


CYCLE: dict = {}
CYCLE["self"] = CYCLE
DEEP: list = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "metadata",
    [{"x": object()}, {"x": float("nan")}, {1: 1, "1": 1}, CYCLE, {"x": DEEP}],
    ids=["object", "NaN", "twice", "cycle", "deep"],
)
def test_metadata_must_be_json(tmp_path: Path, metadata: dict) -> None:
    network = tiny_network()
    object.__setattr__(network, "metadata", metadata)
    with pytest.raises(ArtifactError, match="network metadata must be JSON data: "):
        network.save(tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []
