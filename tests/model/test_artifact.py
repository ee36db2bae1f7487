"""The artifact: every integer back, no file that is not whole, nothing left behind."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from nupes.model.artifact import FORMAT, load, pack_codes, save, unpack_codes
from nupes.model.errors import ArtifactError
from nupes.model.network import IntegerNetwork, Tensor
from nupes.model.operators import Conv
from tests.model.tiny import tiny_network
from tests.networks import images_of, networks


@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.lists(st.integers(1, 5), max_size=4))
def test_codes_are_packed_to_their_bits(bits: int, seed: int, shape: list[int]) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, shape).astype(np.uint8)
    packed = pack_codes(codes, bits)
    text = "".join(f"{code:0{bits}b}"[::-1] for code in codes.reshape(-1).tolist())
    want = [int(text[i : i + 8][::-1], 2) for i in range(0, len(text), 8)]
    assert packed.tolist() == want
    np.testing.assert_array_equal(unpack_codes(packed, bits, tuple(shape)), codes)


def test_known_packing() -> None:
    assert pack_codes(np.array([1, 2, 3]), 3).tolist() == [0b11_010_001, 0b0]
    assert pack_codes(np.array([0xA, 0x5, 0xF]), 4).tolist() == [0x5A, 0x0F]


def test_wrong_length_of_packed_codes() -> None:
    with pytest.raises(ArtifactError) as error:
        unpack_codes(np.zeros(3, np.uint8), 3, (5,))
    assert str(error.value) == "5 codes of 3 bits must take 2 bytes, not 3"


def flat(value: Any) -> Any:
    """Return a network, or a part of one, as comparable data: every array with its dtype."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tolist()
    if isinstance(value, tuple | list):
        return [flat(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        fields = {name: flat(getattr(value, name)) for name in value.__dataclass_fields__}
        return {"type": type(value).__name__, **fields}
    return value


@settings(max_examples=60)
@given(networks())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, network: IntegerNetwork) -> None:
    path = tmp_path_factory.mktemp("artifact") / "net.safetensors"
    assert save(network, path) == path
    again = load(path)
    assert flat(again) == flat(network)
    codes = network.encode(images_of(network, 1))
    np.testing.assert_array_equal(again.run(codes), network.run(codes))
    with safe_open(path, framework="numpy") as handle:
        for index, layer in enumerate(network.layers):
            if isinstance(layer.op, Conv):
                packed = handle.get_tensor(f"layers.{index}.weight.codes")
                assert packed.size == -(-layer.op.codes.size * layer.op.codebook.bits // 8)


def test_equal_networks_give_equal_files(tmp_path: Path) -> None:
    files = {tiny_network().save(tmp_path / "net.safetensors").read_bytes() for _ in range(8)}
    assert len(files) == 1


def test_the_file_is_what_numerics_md_says(tmp_path: Path) -> None:
    path = tiny_network().save(tmp_path / "net.safetensors")
    with safe_open(path, framework="numpy") as handle:
        header = handle.metadata()
        types = {name: handle.get_tensor(name).dtype.name for name in handle.keys()}
    assert set(header) == {"format", "graph", "digest"}
    graph = json.loads(header["graph"])
    assert set(graph) == {"input", "layers", "scale", "output_shape", "metadata"}
    assert set(graph["layers"][0]) == {"name", "input", "op", "output", "residual"}
    assert graph["layers"][0]["op"]["codebook"] == {
        "bits": 3, "family": "power", "signed": True, "lmax": 127, "exponent": 0.5,
    }  # fmt: skip
    assert graph["metadata"] == {"scheme": "W3A4"}
    layer = {
        "weight.codes": "uint8", "weight.scale": "float64", "weight.levels": "int16",
        "mult": "int32", "bias": "int64", "shift": "int32",
    }  # fmt: skip
    stored = {
        "output.levels": "int16", "encoder.thresholds": "int16", "encoder.codes": "uint8",
    }  # fmt: skip
    assert types == (
        {"input.thresholds": "float64", "input.levels": "int16", "layers.2.output.levels": "int16"}
        | {f"layers.{i}.{name}": kind for i in (0, 1, 3) for name, kind in layer.items()}
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


@pytest.mark.parametrize("metadata", [{"x": object()}, {"x": float("nan")}])
def test_metadata_must_be_json(tmp_path: Path, metadata: dict) -> None:
    network = tiny_network()
    object.__setattr__(network, "metadata", metadata)
    with pytest.raises(ArtifactError, match="network metadata must be JSON data: "):
        network.save(tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a good file."""
    return tiny_network().save(tmp_path_factory.mktemp("whole") / "net.safetensors").read_bytes()


def refused(tmp_path: Path, data: bytes) -> str:
    """Return the error that loading these bytes gives."""
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as error:
        load(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_truncated_files(tmp_path: Path, whole: bytes) -> None:
    for size in [*range(0, 40), *range(40, len(whole), 37), len(whole) - 1]:
        assert "must be a complete safetensors file" in refused(tmp_path, whole[:size])
    assert "must be a complete safetensors file" in refused(tmp_path, whole + b"\0")


def test_a_flipped_bit_anywhere(tmp_path: Path, whole: bytes) -> None:
    """The header's length, the header, its padding and every tensor: each region, each bit."""
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        refused(tmp_path, bytes(data))


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
def test_foreign_files(tmp_path: Path, data: bytes) -> None:
    assert "must be a complete safetensors file" in refused(tmp_path, data)


def test_a_safetensors_file_of_somebody_else(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}, {"format": "nupes-0"}):
        data = save_tensors({"weight": np.zeros(3, np.float32)}, metadata=metadata)
        name = None if metadata is None else metadata["format"]
        assert refused(tmp_path, data).endswith(
            f"must have format 'nupes-1', not {name!r}; write it with qnet.save of this version"
        )


def forged(whole: bytes, graph: str | None = None, **arrays: np.ndarray | None) -> bytes:
    """Return a file whose digest is right and whose content is not."""
    tensors = load_tensors(whole)
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
    for name, value in arrays.items():
        tensors.pop(name.replace("__", "."))
        if value is not None:
            tensors[name.replace("__", ".")] = value
    text = header["graph"] if graph is None else graph
    state = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        state.update(f"{name} {value.dtype} {value.shape}".encode())
        state.update(value.tobytes())
    metadata = {"format": FORMAT, "graph": text, "digest": state.hexdigest()}
    return save_tensors(tensors, metadata=metadata)


def test_the_digest_can_be_computed_from_the_text_of_numerics_md(
    tmp_path: Path, whole: bytes
) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(forged(whole))
    assert flat(load(path)) == flat(tiny_network())


GRAPH: dict[str, Any] = {
    "scale": 1.0, "output_shape": [3], "metadata": {}, "layers": [],
    "input": {"name": "input", "shape": [4, 4, 2], "scale": 1.0, "codebook": {"bits": 4}},
}  # fmt: skip


@pytest.mark.parametrize(
    "graph",
    [
        "", "{", "[]", "null", "3", "{}", "[" * 100_000,
        json.dumps(GRAPH),
        json.dumps(GRAPH | {"input": None}),
        json.dumps(GRAPH | {"layers": [None]}),
        json.dumps(GRAPH | {"layers": [{"op": {"kind": "conv"}}]}),
        json.dumps(GRAPH | {"layers": [{"op": {"kind": "softmax"}}]}),
        json.dumps(GRAPH | {"layers": [{"op": []}]}),
        json.dumps(GRAPH | {"layers": 5}),
        json.dumps(GRAPH | {"output_shape": 3}),
    ],
)  # fmt: skip
def test_a_graph_that_is_none(tmp_path: Path, whole: bytes, graph: str) -> None:
    assert "does not describe a valid network" in refused(tmp_path, forged(whole, graph))


@pytest.mark.parametrize(
    "arrays",
    [
        {"input__levels": None},
        {"input__levels": np.zeros(16, np.int16)},
        {"input__thresholds": np.zeros((2, 3))},
        {"layers__0__mult": np.full(2, 70000, np.int32)},
        {"layers__0__mult": np.full(2, 0.5)},
        {"layers__0__bias": None},
        {"layers__0__weight__codes": np.zeros(1, np.uint8)},
        {"layers__0__weight__codes": np.zeros((2, 7), np.uint8)},
        {"layers__0__weight__codes": np.zeros(14, np.float32)},
        {"layers__0__weight__codes": np.full(14, 255, np.uint8)},
        {"layers__0__encoder__codes": None},
        {"layers__0__encoder__codes": np.zeros((4, 4), np.uint8)},
        {"layers__0__encoder__thresholds": np.zeros(15)},
    ],
)
def test_tensors_that_break_the_contract(tmp_path: Path, whole: bytes, arrays: dict) -> None:
    assert "does not describe a valid network" in refused(tmp_path, forged(whole, **arrays))


def test_stored_scales_are_metadata(tmp_path: Path, whole: bytes) -> None:
    """No integer is computed from a scale: another scale changes no ``y``."""
    path = tmp_path / "net.safetensors"
    path.write_bytes(forged(whole, layers__0__weight__scale=np.full(2, 9.0)))
    network = load(path)
    codes = network.encode(images_of(network, 3))
    np.testing.assert_array_equal(network.run(codes), tiny_network().run(codes))
    assert isinstance(network.the_input.tensor, Tensor)
