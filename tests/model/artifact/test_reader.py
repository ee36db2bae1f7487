"""What is read: whole files of the format and no other, by the digest and by the schema."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as save_tensors

from nupes.model.artifact.reader import load
from nupes.model.artifact.writer import network_bytes
from nupes.model.errors import ArtifactError
from nupes.model.operators import OPERATORS
from tests.images import images_of
from tests.model.artifact.files import contents, flat, forged, refused
from tests.model.tiny import tiny_network

INVALID = "does not describe a valid network: "


@pytest.fixture(scope="module")
def whole() -> bytes:
    """Return the bytes of a good file."""
    return network_bytes(tiny_network())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where to write a file."""
    return tmp_path / "net.safetensors"


def test_truncated_files(path: Path, whole: bytes) -> None:
    for size in [*range(0, 40), *range(40, len(whole), 37), len(whole) - 1]:
        assert refused(path, whole[:size]).startswith("must be a complete safetensors file")
    assert refused(path, whole + b"\0").startswith("must be a complete safetensors file")


@pytest.mark.slow
def test_a_flipped_bit_anywhere(path: Path, whole: bytes) -> None:
    """The header's length, the header, its padding and every tensor: each region, each bit."""
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        refused(path, bytes(data))


@settings(max_examples=300)
@given(st.data())
def test_a_changed_byte_gives_an_error_or_the_same_network(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    """White space between the parts of the header is the only byte that may change unseen."""
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("bytes") / "bad.safetensors"
    path.write_bytes(changed)
    try:
        network = load(path)
    except ArtifactError:
        return
    assert flat(network) == flat(tiny_network())


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as error:
        load(tmp_path / "none.safetensors")
    assert str(error.value) == f"artifact {tmp_path / 'none.safetensors'} must be an existing file"
    with pytest.raises(ArtifactError, match="must be an existing file"):
        load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK\3\4 a zip of pickles", b"\x89PNG\r\n", bytes(1000)])
def test_foreign_files(path: Path, data: bytes) -> None:
    assert refused(path, data).startswith("must be a complete safetensors file")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "nupes-0"}])
def test_a_safetensors_file_of_somebody_else(path: Path, metadata: dict | None) -> None:
    data = save_tensors({"weight": np.zeros(3, np.float32)}, metadata=metadata)
    name = None if metadata is None else metadata["format"]
    assert refused(path, data) == (
        f"must have format 'nupes-2' or 'nupes-1', not {name!r}; "
        "write it with qnet.save of this version"
    )


def claiming(size: int, kind: str = "I8") -> bytes:
    """Return a file whose header claims an array of a size that the file does not have."""
    header = json.dumps({"x": {"dtype": kind, "shape": [size], "data_offsets": [0, size]}})
    return len(header).to_bytes(8, "little") + header.encode() + bytes(8)


@pytest.mark.parametrize(
    "data",
    [
        claiming(40 << 30), claiming(2**62), claiming(2**64), claiming(-8), claiming(8, "BF16"),
        claiming(8, "F8_E4M3"), claiming(8, "F4"), claiming(8, "X9"),
        (40 << 30).to_bytes(8, "little") + b"{}", b"\xff" * 16, b"\x02" + bytes(7) + b"[]",
        (10**6).to_bytes(8, "little") + b"[" * 10**6,
    ],
)  # fmt: skip
def test_claims_are_compared_with_the_file(path: Path, data: bytes) -> None:
    """Before anything of the claimed size is allocated."""
    assert refused(path, data).startswith("must be a complete safetensors file: ")


def test_the_digest_can_be_computed_from_the_text_of_numerics_md(path: Path, whole: bytes) -> None:
    path.write_bytes(forged(*contents(whole)))
    assert flat(load(path)) == flat(tiny_network())


def test_a_wrong_digest(path: Path, whole: bytes) -> None:
    graph, arrays = contents(whole)
    data = forged(graph, arrays).replace(b"W3A4", b"W3A5")
    assert refused(path, data) == "is corrupted: its digest does not match its content"


@pytest.mark.parametrize(
    "graph", ["", "{", "[]", "null", "3", "{}", "[" * 100_000, '{"a":' * 100_000, "1" * 10_000]
)
def test_a_graph_that_is_none(path: Path, whole: bytes, graph: str) -> None:
    assert refused(path, forged(graph, contents(whole)[1])).startswith(INVALID)


def changed(graph: str, place: str, value: Any) -> str:
    """Return a graph with the value at a place replaced by ``value``, or by its text."""
    data = json.loads(graph)
    part = data
    *route, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    for key in route:
        part = part[key]
    part[last] = value if not isinstance(value, Text) else "@"
    return json.dumps(data).replace('"@"', str(value))


class Text(str):
    """JSON text that json would not write."""


PAIR = "must be a list of 2, not "
INTEGER = "must be an integer, not "
NUMBER = "must be a number of float64, not "
BOOK = "layers.0.op.codebook"


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        ("metadata", [], "graph: metadata must be an object, not []"),
        ("layers", 5, "graph: layers must be a list, not 5"),
        ("layers.0", None,
         ("graph: layers.0 must be an object with the keys name, op, inputs, output, "
         "post, not null")),
        ("layers.0.x", 1,
         ("graph: layers.0 must be an object with the keys name, op, inputs, output, "
         'post, not ["name", "op", "inputs", "output", "post", "x"]')),
        ("layers.0.name", 1, "graph: layers.0.name must be text, not 1"),
        ("layers.0.name", "\ud800",
         "graph: layers.0.name must be text of whole characters, not '\\ud800'"),
        ("layers.0.op", [], "graph: layers.0.op must be an object with a kind, not []"),
        ("layers.0.op.kind", "softmax",
         f"graph: layers.0.op.kind must be one of {', '.join(OPERATORS)}, not softmax"),
        ("layers.0.op.kind", [1],
         f"graph: layers.0.op.kind must be one of {', '.join(OPERATORS)}, not [1]"),
        ("layers.0.op.stride", [1], f"graph: layers.0.op.stride {PAIR}[1]"),
        ("layers.0.op.stride", "11", f"graph: layers.0.op.stride {PAIR}11"),
        ("layers.0.op.stride.1", 1.0, f"graph: layers.0.op.stride.1 {INTEGER}1.0"),
        ("layers.0.op.stride.1", True, f"graph: layers.0.op.stride.1 {INTEGER}true"),
        ("layers.0.op.stride.1", "1", f"graph: layers.0.op.stride.1 {INTEGER}1"),
        ("layers.0.op.stride.1", None, f"graph: layers.0.op.stride.1 {INTEGER}null"),
        ("layers.0.op.stride.1", 0,
         "layer 'one': stride must be 2 integers in 1..1048576, not (1, 0)"),
        ("layers.0.op.stride.1", 10**30,
         f"layer 'one': stride must be 2 integers in 1..1048576, not (1, {10**30})"),
        ("layers.0.op.codes", [2, 2, 3, -3],
         "graph: layers.0.op.codes must be a shape of positive sizes, not [2, 2, 3, -3]"),
        ("layers.0.op.codes", [2, 2, 3, 2**70],
         f"layers.0.op: {12 * 2**70} codes of 3 bits must take {36 * 2**67} bytes, not 14"),
        ("layers.0.op.codes.0", 1, "layers.0.op: 18 codes of 3 bits must take 7 bytes, not 14"),
        ("layers.0.op.scale", [3],
         ("graph: array layers.0.op.scale must be float64 of shape [3], not "
         "float64 of shape [2]")),
        (f"{BOOK}.exponent", 0.55, (f"{BOOK}: levels of a power codebook must be those of its "
         "parameters, [-127, -61, -17, 0, 17, 61, 127], not [-127, -56, -14, 0, 14, 56, 127]")),
        (f"{BOOK}.family", "powers",
         f"graph: {BOOK}.family must be one of uniform, power, power-midrise, table, not powers"),
        (f"{BOOK}.lmax", None,
         f"{BOOK}: codebook family 'power' needs lmax and exponent, not None and 0.5"),
        (f"{BOOK}.lmax", 10**40, f"{BOOK}: codebook lmax must lie in 1..256, not {10**40}"),
        (f"{BOOK}.signed", False, f"{BOOK}: levels of a power codebook must be those of its "),
        (f"{BOOK}.bits", 4, f"{BOOK}: levels of a power codebook must be those of its "),
        (f"{BOOK}.bits", 0, f"{BOOK}: codebook bits must be 1 to 8, not 0"),
        ("layers.0.post", None, "array layers.0.post.encoder.codes must be named by the graph"),
        ("layers.0.post.encoder", None,
         "array layers.0.post.encoder.codes must be named by the graph"),
        ("layers.1.post.residual", 0,
         "graph: layers.1.post.residual must be an object with the keys port, mult, shift, not 0"),
        ("layers.1.post.residual.shift", 1.5, f"graph: layers.1.post.residual.shift {INTEGER}1.5"),
        ("layers.1.post.residual.mult", 65536,
         "layer 'two': residual mult must be an integer in 0..65535, not 65536"),
        ("layers.0.output.format.scale", True, f"graph: layers.0.output.format.scale {NUMBER}true"),
        ("layers.0.output.format.scale", None, f"graph: layers.0.output.format.scale {NUMBER}null"),
        ("layers.0.output.format.scale", 10**400,
         f"graph: layers.0.output.format.scale {NUMBER}1000"),
        ("layers.0.output.format.scale", 0,
         "layer 'one': scale of tensor 'a' must be a positive number, not 0.0"),
        ("layers.0.output.format.scale", -1,
         "layer 'one': scale of tensor 'a' must be a positive number, not -1.0"),
        ("layers.0.output.format.scale", Text("1e400"), "number 1e400 must be finite"),
        ("layers.0.output.format.scale", Text("NaN"), "NaN is no JSON"),
        ("layers.0.output.format.scale", Text("-Infinity"), "-Infinity is no JSON"),
        ("layers.0.output.format.scale", Text('1, "scale": 1'), "key 'scale' must stand once"),
        ("layers.0.output.format.kind", "wide",
         ("graph: layers.0.output.format must be an object with "
         'the keys scale, not ["codebook", "scale"]')),
        ("metadata.x", Text("1e400"), "number 1e400 must be finite"),
        ("layers.2.output.format.scale", 0.25, ("layer 'pool': a max_pool copies codes, so tensor "
         "'b' and its output must have one codebook and one scale")),
        ("layers.0.output.shape.0", 5,
         "layer 'one' gives shape (4, 4, 2), but its output tensor has (5, 4, 2)"),
        ("outputs.0.shape", 3, "graph: outputs.0.shape must be a list, not 3"),
        ("outputs.0.shape", [-3, -1],
         "output 'y': shape (-3, -1) must hold the (1, 1, 3) of its tensor"),
        ("inputs", [], "array inputs.0.encoder.thresholds must be named by the graph"),
    ],
)  # fmt: skip
def test_values_of_the_graph(path: Path, whole: bytes, place: str, value: Any, text: str) -> None:
    graph, arrays = contents(whole)
    found = refused(path, forged(changed(graph, place, value), arrays))
    assert found.startswith(INVALID + text)


MULT = "layers.0.post.requantize.mult"


@pytest.mark.parametrize(
    ("name", "array", "text"),
    [
        ("layers.0.post.requantize.bias", None,
         "array layers.0.post.requantize.bias must be in the file"),
        ("more", np.zeros(1), "array more must be named by the graph"),
        (MULT, np.zeros(2, np.int16),
         f"graph: array {MULT} must be int32 of shape [2], not int16 of shape [2]"),
        (MULT, np.zeros(2),
         f"graph: array {MULT} must be int32 of shape [2], not float64 of shape [2]"),
        (MULT, np.zeros((2, 1), np.int32),
         f"graph: array {MULT} must be int32 of shape [2], not int32 of shape [2, 1]"),
        (MULT, np.full(2, 70000, np.int32),
         "layer 'one': mult must lie in -65535..65535, not 70000..70000"),
        ("layers.0.op.codes", np.zeros(1, np.uint8),
         "layers.0.op: 36 codes of 3 bits must take 14 bytes, not 1"),
        ("layers.0.op.codes", np.zeros((2, 7), np.uint8),
         "graph: array layers.0.op.codes must be uint8 of one axis, not uint8 of shape [2, 7]"),
        ("layers.0.op.codes", np.full(14, 0xFF, np.uint8),
         "layers.0.op: the last byte of packed codes must be filled up with zeros"),
        ("layers.0.op.codes", np.array([0xFF] * 13 + [0xF], np.uint8),
         "layer 'one': weight codes must be below 7"),
        ("layers.0.op.scale", np.array([1, np.nan]),
         "layer 'one': weight scale must be finite numbers"),
        ("inputs.0.tensor.format.codebook.levels", np.arange(1, 17).astype(np.int16),
         "inputs.0.tensor.format.codebook: levels of a uniform codebook must be those of its"),
        ("inputs.0.encoder.thresholds", np.full((2, 15), np.nan),
         "input thresholds must be non-decreasing numbers"),
        ("layers.0.post.encoder.thresholds", np.zeros(14, np.int16),
         ("graph: array layers.0.post.encoder.thresholds must be int16 of shape [15], not "
          "int16 of shape")),
    ],
)  # fmt: skip
def test_arrays(path: Path, whole: bytes, name: str, array: np.ndarray | None, text: str) -> None:
    graph, arrays = contents(whole)
    arrays.pop(name, None)
    if array is not None:
        arrays[name] = array
    assert refused(path, forged(graph, arrays)).startswith(INVALID + text)


def test_stored_scales_are_notes(path: Path, whole: bytes) -> None:
    """No integer is computed from a scale: another scale changes no ``y``."""
    graph, arrays = contents(whole)
    path.write_bytes(forged(graph, arrays | {"layers.0.op.scale": np.full(2, 9.0)}))
    network = load(path)
    codes = network.encode(images_of(network, 3))
    np.testing.assert_array_equal(network.run(codes), tiny_network().run(codes))
