"""Files of format nupes-1: the same integers, and nothing else taken for one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nupes.model.artifact.format_1 import convert
from nupes.model.artifact.reader import load
from nupes.model.errors import ArtifactError
from tests.model.artifact.files import contents, flat, forged, places, refused
from tests.model.reference import network as reference

FILES = Path(__file__).parents[1] / "files"
NAMES = ("digits", "operators")


def old(name: str) -> tuple[Any, dict[str, np.ndarray]]:
    """Return graph and arrays of a file of the old format."""
    graph, arrays = contents((FILES / f"nupes-1-{name}.safetensors").read_bytes())
    return json.loads(graph), arrays


@pytest.mark.parametrize("name", NAMES)
def test_old_files_give_the_same_integers(name: str, tmp_path: Path) -> None:
    network = load(FILES / f"nupes-1-{name}.safetensors")
    with np.load(FILES / f"nupes-1-{name}.npz") as data:
        images, y = data["images"], data["y"]
    codes = network.encode(images)
    np.testing.assert_array_equal(network.run(codes), y)
    assert reference.run(network, codes[0]) == y[0].reshape(-1).tolist()
    again = load(network.save(tmp_path / "net.safetensors"))
    assert flat(again) == flat(network)


@pytest.mark.parametrize("name", NAMES)
def test_conversion_changes_nothing_that_it_is_given(name: str) -> None:
    graph, arrays = old(name)
    text, before = json.dumps(graph), {n: array.copy() for n, array in arrays.items()}
    assert convert(graph, arrays)[0] == convert(graph, arrays)[0]
    assert json.dumps(graph) == text
    assert flat(list(arrays.items())) == flat(list(before.items()))


def test_the_scale_of_a_max_pool_is_that_of_its_source(tmp_path: Path) -> None:
    """It was a note in the old format, and could be another one."""
    graph, arrays = old("digits")
    graph["layers"][3]["output"]["scale"] = 0.123
    path = tmp_path / "net.safetensors"
    path.write_bytes(forged(graph, arrays, "nupes-1"))
    network = load(path)
    assert network.tensors["pool"].scale == network.tensors["conv2"].scale
    assert flat(network) == flat(load(FILES / "nupes-1-digits.safetensors"))


def test_a_result_that_was_flattened(tmp_path: Path) -> None:
    """The old graph has no shape for the last layer's map."""
    graph, arrays = old("digits")
    last = graph["layers"][-1]
    last["op"] |= {"stride": [1, 1], "padding": [1, 0, 0, 0]}
    graph["output_shape"] = [20]
    path = tmp_path / "net.safetensors"
    path.write_bytes(forged(graph, arrays, "nupes-1"))
    network = load(path)
    assert network.tensors["classify"].shape == (2, 1, 10)
    assert network.the_output.shape == (20,)


def test_the_last_tensor_gets_a_name_of_its_own(tmp_path: Path) -> None:
    graph, arrays = old("digits")
    graph["layers"][-1]["name"] = "conv1"
    graph["layers"][1]["name"] = "another"
    path = tmp_path / "net.safetensors"
    path.write_bytes(forged(graph, arrays, "nupes-1"))
    assert load(path).the_output.tensor == "conv1_"


@pytest.mark.parametrize("value", [None, "x", 1.5, [[]], -1, "delete", "add"])
def test_old_graphs_that_are_none(tmp_path: Path, value: Any) -> None:
    """Every value replaced: an error, or the file of a network with the same integers."""
    path = tmp_path / "net.safetensors"
    with np.load(FILES / "nupes-1-operators.npz") as data:
        images, y = data["images"], data["y"]
    for route in places(old("operators")[0]):
        graph, arrays = old("operators")
        part = graph
        for key in route[:-1]:
            part = part[key]
        if value == "delete":
            del part[route[-1]]
        elif value == "add":
            if not isinstance(part[route[-1]], dict):
                continue
            part[route[-1]]["more"] = 1
        else:
            part[route[-1]] = value
        path.write_bytes(forged(graph, arrays, "nupes-1"))
        try:
            network = load(path)
        except ArtifactError:
            continue
        # A shift by a negative offset selects other channels; other values are notes or the same.
        if "offset" not in route:
            found = network.run(network.encode(images))
            np.testing.assert_array_equal(found.reshape(4, -1), y.reshape(4, -1))


def test_messages(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    begin = "does not describe a valid network: graph must be one of format 'nupes-1': "
    assert refused(path, forged("{}", {}, "nupes-1")) == (
        f"{begin}an object must have the keys input, layers, scale, output_shape, metadata, not "
    )
    graph, arrays = old("digits")
    del arrays["layers.0.mult"]
    assert "array layers.0.post.encoder.codes must be named by the graph" in refused(
        path, forged(graph, arrays, "nupes-1")
    )
    graph, arrays = old("digits")
    del arrays["layers.0.bias"]
    found = refused(path, forged(graph, arrays, "nupes-1"))
    assert found == f"{begin}array layers.0.bias must be in the file"


def test_negative_multipliers_are_refused(tmp_path: Path) -> None:
    graph, arrays = old("digits")
    arrays["layers.0.mult"] = -arrays["layers.0.mult"]
    found = refused(tmp_path / "net.safetensors", forged(graph, arrays, "nupes-1"))
    assert found.endswith("array layers.0.mult must have no negative numbers")
