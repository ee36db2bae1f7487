"""Forged files with a digest that is right.

What the format promises of them (docs/numerics.md): a file is refused, or its network is the one
that the file describes, to the last number. So it gives what it gave before, unless a field was
changed that is the only carrier of an integer; then it gives what the second implementation makes
of that file. These fields are listed here.
"""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nupes.model.artifact.reader import load
from nupes.model.artifact.writer import network_bytes
from nupes.model.errors import ArtifactError
from nupes.model.network import IntegerNetwork
from tests.model.artifact.files import contents, forged, places
from tests.model.joined import codes_for, joined_network
from tests.model.reference import network as reference
from tests.model.tiny import tiny_network
from tests.transformers import one_block

CARRIERS = {
    "centered", "channels", "dilation", "epsilon", "first", "groups", "kernel", "mult", "offset",
    "first_row", "padding", "rows", "shape", "shift", "stride", "tensor", "transposed", "written",
}  # fmt: skip
"""Keys of the graph that alone say what to compute; all others are notes, or stand twice."""

NETWORKS = {"tiny": tiny_network, "joined": joined_network, "attention": one_block}
CASES = ["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in ("joined", "attention"))]
CHANGES = 500
"""Of each of the networks."""

VALUES: list[Any] = [
    True, False, None, 0, 1, -1, 2, 3, 7, 1.0, 1.5, -0.0, 1e308, "", "1", "x", [], {}, [1], [[]],
    {"kind": "conv"}, 10**30, -(10**30), 2**31, 65536, "@1e400", "@NaN", "@-Infinity", "@1e-400",
    "@1E5", '@1, "twice": 1, "twice": 2', "\ud800", "input", "a", "next", "coded", "wide",
]  # fmt: skip
"""What a value may become; text after @ stands in the file as it is."""


def change_graph(rng: np.random.Generator, graph: Any) -> str:
    """Return the text of a graph with one change."""
    graph = deepcopy(graph)
    found = list(places(graph))
    route = found[rng.integers(len(found))]
    part = graph
    for key in route[:-1]:
        part = part[key]
    last = route[-1]
    old = part[last]
    other = found[rng.integers(len(found))]
    choice = rng.integers(10)
    if choice == 0:
        del part[last]
    elif choice == 1 and isinstance(old, dict):
        old["more"] = 1
    elif choice == 2 and isinstance(old, list) and old:
        old.append(old[-1])
    elif choice == 3 and isinstance(old, list):
        old.reverse()
    elif choice == 4 and isinstance(old, int | float):
        part[last] = old + int(rng.choice([-1, 1]))
    elif choice == 5 and isinstance(old, int | float):
        part[last] = [float(old), str(old), -old, old * 2, [old], not old][rng.integers(6)]
    elif choice == 6:
        value = graph
        for key in other:
            value = value[key]
        part[last] = deepcopy(value)
    else:
        part[last] = VALUES[rng.integers(len(VALUES))]
    text = json.dumps(graph)
    for value in VALUES:
        if isinstance(value, str) and value.startswith("@"):
            text = text.replace(json.dumps(value), value[1:])
    return text


def change_arrays(rng: np.random.Generator, arrays: dict[str, np.ndarray]) -> None:
    """Change one array in place."""
    names = sorted(arrays)
    name = names[rng.integers(len(names))]
    array = arrays[name].copy()
    choice = rng.integers(9)
    if choice == 0:
        types = ["int8", "uint8", "int16", "uint16", "int32", "int64", "float32", "float64", "bool"]
        array = array.astype(types[rng.integers(len(types))])
    elif choice == 1:
        array = array[None] if rng.integers(2) else array.reshape(-1, 1)
    elif choice == 2:
        array = array[: -1 - int(rng.integers(2))]
    elif choice == 3:
        array = np.concatenate([array, array[-1:]])
    elif choice == 4:
        array = array[::-1].copy()
    elif choice == 5 and array.dtype.kind == "f":
        array.flat[rng.integers(array.size)] = [np.nan, np.inf, -np.inf, -1, 0][rng.integers(5)]
    elif choice == 6:
        del arrays[name]
        name = f"{name}.more"
    elif choice == 7:
        array = arrays[names[rng.integers(len(names))]]
    elif array.size:
        limits = [0, 1, -1, 100, 2**15, -(2**40), 2**31 - 1]
        with np.errstate(invalid="ignore", over="ignore"):
            value = array.flat[rng.integers(array.size)] + np.array(limits)[rng.integers(7)]
            array.flat[rng.integers(array.size)] = np.array(value).astype(array.dtype)
    arrays[name] = np.ascontiguousarray(array)


def leaves(graph: Any) -> dict[tuple, str]:
    """Return the text of every value that holds no others, by its place."""
    found = {}
    for route in places(graph):
        value = graph
        for key in route:
            value = value[key]
        if not isinstance(value, dict | list):
            found[route] = repr(value)
    return found


def changed_keys(one: Any, two: Any) -> set[Any]:
    """Return the keys on the way to all values in which two graphs differ."""
    differing = leaves(one).items() ^ leaves(two).items()
    return {key for route, _ in differing for key in route}


def equals_the_reference(network: IntegerNetwork) -> list[list[int]]:
    """Return every output of one image, which the second implementation confirms."""
    codes = codes_for(network, 1)
    want, _ = reference.advance(network, {}, *(part[0] for part in codes))
    found = [y[0].reshape(-1).tolist() for y in network.run_all(*codes)]
    assert found == want
    return found


def outcomes(
    path: Path, name: str, change: Callable[[np.random.Generator, Any, dict], str]
) -> Iterator[tuple[set[Any], bool]]:
    """Yield the changed keys of every file that gives a network, and whether it has the same
    results.

    Each of them is what its file says: written again it has the same graph and arrays.
    """
    original = NETWORKS[name]()
    before = equals_the_reference(original)
    text, arrays = contents(network_bytes(original))
    for seed in range(CHANGES):
        rng = np.random.default_rng(seed)
        mine = dict(arrays)
        graph = change(rng, json.loads(text), mine)
        path.unlink(missing_ok=True)  # a file that is written over may be flushed to the disk
        path.write_bytes(forged(graph, mine))
        try:
            network = load(path)
        except ArtifactError:
            continue
        again, kept = contents(network_bytes(network))
        assert json.loads(again) == json.loads(graph)
        assert kept.keys() == mine.keys()
        for key, array in mine.items():
            assert (kept[key].dtype, kept[key].shape) == (array.dtype, array.shape)
            assert kept[key].tobytes() == array.tobytes()
        same_inputs = [i.tensor.shape for i in network.inputs] == [
            i.tensor.shape for i in original.inputs
        ]
        yield (
            changed_keys(json.loads(text), json.loads(graph)),
            same_inputs and equals_the_reference(network) == before,
        )


@pytest.mark.parametrize("name", CASES)
def test_changes_of_the_graph(tmp_path: Path, name: str) -> None:
    def change(rng: np.random.Generator, graph: Any, arrays: dict) -> str:
        return change_graph(rng, graph)

    found = list(outcomes(tmp_path / "net.safetensors", name, change))
    assert len(found) < CHANGES // 3
    for keys, same in found:
        assert same or CARRIERS & keys, keys


@pytest.mark.parametrize("name", CASES)
def test_changes_of_the_arrays(tmp_path: Path, name: str) -> None:
    def change(rng: np.random.Generator, graph: Any, arrays: dict) -> str:
        change_arrays(rng, arrays)
        return json.dumps(graph)

    found = list(outcomes(tmp_path / "net.safetensors", name, change))
    assert 0 < len(found) < CHANGES // 2
