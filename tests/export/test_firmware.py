"""The C firmware, compiled by the system's compiler, against the integer network."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nupes
from nupes.export.firmware import build_firmware, export_firmware, intel_hex, memory_map
from nupes.export.firmware.memory import held, size_of
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from nupes.model.packing import unpack_codes
from tests.export.cases import (
    badly_named,
    digits,
    edges,
    images_for,
    input_codes,
    largest_sum,
    renamed,
    several_ends,
)
from tests.model.tiny import tiny_network
from tests.networks import JOINS, networks
from tests.small import small_network
from tests.small_joins import small_joins
from tests.test_masks import masked

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]

COMPILER = shutil.which("cc") or shutil.which("gcc")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler: apt-get install gcc")


def compiled(folder: Path, *options: str) -> Path:
    """Compile a firmware folder without a warning; return the program."""
    assert COMPILER is not None
    sources = ["main.c", "nupes.c", "network.c"]
    command = [COMPILER, *STRICT, *(options or ("-O1",)), *sources, "-o", "network"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return folder / "network"


def run(program: Path, codes: np.ndarray) -> np.ndarray:
    """Return what the program prints for input codes (b, h, w, c), one row for each image."""
    result = subprocess.run(
        [program, program.parent / "weights.hex"],
        input=codes.tobytes(),
        capture_output=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, b"")
    return np.array([line.split() for line in result.stdout.decode().splitlines()], np.int64)


def check(network: IntegerNetwork, codes: np.ndarray, *options: str) -> None:
    """Export, compile and run; compare every result with the network's."""
    with tempfile.TemporaryDirectory() as folder:
        export_firmware(network, folder)
        results = run(compiled(Path(folder), *options), codes)
    np.testing.assert_array_equal(results, network.run(codes).reshape(len(codes), -1))


def read_hex(data: bytes) -> bytes:
    """Return the bytes of an Intel HEX file, by the letter of the format."""
    memory, upper = {}, 0
    *records, end = data.decode().split()
    for text in records:
        record = bytes.fromhex(text.removeprefix(":"))
        assert sum(record) & 0xFF == 0
        length, address, kind = record[0], int.from_bytes(record[1:3], "big"), record[3]
        payload = record[4:-1]
        assert len(payload) == length
        if kind == 4:
            upper = int.from_bytes(payload, "big") << 16
        else:
            assert kind == 0
            memory |= {upper + address + i: byte for i, byte in enumerate(payload)}
    assert end == ":00000001FF"
    assert sorted(memory) == list(range(len(memory)))
    return bytes(memory[address] for address in range(len(memory)))


@needs_compiler
@settings(max_examples=10)
@given(networks(also=JOINS))
def test_random_networks(network: IntegerNetwork) -> None:
    check(
        network, input_codes(network, 3), "-O0", "-fsanitize=undefined,address", "-static-libasan"
    )


@needs_compiler
@settings(max_examples=10)
@given(edges())
def test_every_field_at_its_limits(network: IntegerNetwork) -> None:
    check(network, input_codes(network, 3))


@pytest.mark.slow
@needs_compiler
@settings(max_examples=150)
@given(edges())
def test_many_networks(network: IntegerNetwork) -> None:
    check(network, input_codes(network, 3))


@needs_compiler
def test_digits() -> None:
    network, images = digits()
    check(network, network.encode(images), "-O2")


@needs_compiler
def test_accumulator_at_the_end_of_32_bits() -> None:
    network = largest_sum(-256, -128, 65535)
    check(network, np.zeros((1, *network.the_input.tensor.shape), np.uint8))


@needs_compiler
def test_images_beyond_64_kibibytes() -> None:
    """The weight image and the hex file's extended addresses."""
    network = largest_sum(127, 127, 600_000 // 5)
    (layer,) = network.layers
    assert isinstance(layer.op, Conv)
    book = replace(layer.op.codebook, bits=8)
    network = replace(network, layers=(replace(layer, op=replace(layer.op, codebook=book)),))
    assert len(memory_map(network).image) == 120_000
    check(network, input_codes(network, 2))


@needs_compiler
@pytest.mark.parametrize("damage", [b"", b":00000001FF\n", b"flip"])
def test_program_refuses_a_damaged_weight_image(tmp_path: Path, damage: bytes) -> None:
    export_firmware(small_network(), tmp_path)
    program = compiled(tmp_path)
    image = tmp_path / "weights.hex"
    good = image.read_bytes()
    flipped = good[:12] + (b"0" if good[12:13] != b"0" else b"1") + good[13:]
    image.write_bytes(flipped if damage == b"flip" else damage)
    result = subprocess.run([program, image], input=b"", capture_output=True, check=False)
    assert result.returncode == 2
    assert b"must be the complete weight image of this network" in result.stderr


@needs_compiler
def test_program_refuses_half_an_image(tmp_path: Path) -> None:
    export_firmware(small_network(), tmp_path)
    program = compiled(tmp_path)
    result = subprocess.run(
        [program, tmp_path / "weights.hex"], input=bytes(17), capture_output=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr == b"input must be whole images of 16 codes\n"


@settings(max_examples=30)
@given(networks())
def test_weight_image_is_as_large_as_its_bits(network: IntegerNetwork) -> None:
    """Each layer's packed codes, one after another, and no other byte."""
    image, places = read_hex(build_firmware(network)["weights.hex"]), memory_map(network)
    size = 0
    for layer in network.layers:
        if isinstance(layer.op, Conv):
            count, bits = layer.op.codes.size, layer.op.codebook.bits
            assert places.weights[layer.name] == size
            packed = np.frombuffer(image, np.uint8)[size : size + -(-count * bits // 8)]
            codes = unpack_codes(packed, bits, layer.op.codes.shape)
            np.testing.assert_array_equal(codes, layer.op.codes)
            size += -(-count * bits // 8)
    assert len(image) == size


@settings(max_examples=30)
@given(networks(6, also=JOINS))
def test_tensors_that_live_together_do_not_overlap(network: IntegerNetwork) -> None:
    places, sizes = memory_map(network), {}
    for name, tensor in held(network).items():
        start = places.bases[name]
        sizes[name] = range(start, start + size_of(tensor))
    assert max(area.stop for area in sizes.values()) == places.activations
    for index, layer in enumerate(network.layers):
        later = network.layers[index:]
        needed = {port.tensor for item in later for port in item.reads}
        known = {network.the_input.tensor.name} | {
            item.output.name for item in network.layers[:index]
        }
        if layer.output.name in sizes:
            area = sizes[layer.output.name]
            for name in needed & known:
                assert set(area).isdisjoint(sizes[name])


@needs_compiler
def test_no_kind_can_be_left_out(tmp_path: Path) -> None:
    """A kind without a case must not be summed as if it were another one."""
    export_firmware(small_network(), tmp_path)
    header, source = tmp_path / "nupes.h", tmp_path / "nupes.c"
    header.write_text(header.read_text().replace("NUPES_CONV,", "NUPES_CONV, NUPES_NEW,"))
    command = [str(COMPILER), *STRICT, "-fsyntax-only", str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "NUPES_NEW" in result.stderr


def test_runtime_has_integers_only() -> None:
    for name, data in build_firmware(small_network()).items():
        if name.endswith((".c", ".h")) and name != "network.h":
            code = re.sub(r"/\*.*?\*/|\"[^\"]*\"", "", data.decode(), flags=re.DOTALL)
            assert not re.search(r"\b(float|double|malloc|calloc|alloca)\b|\d\.\d", code), name


def check_ends(network: IntegerNetwork, *options: str) -> None:
    """Compare every output for images of every input."""
    codes = network.encode_all(*images_for(network, 4))
    with tempfile.TemporaryDirectory() as folder:
        export_firmware(network, folder)
        flat = np.concatenate([part.reshape(len(part), -1) for part in codes], axis=1)
        results = run(compiled(Path(folder), *options), flat)
    outputs = [y.reshape(len(y), -1) for y in network.run_all(*codes)]
    np.testing.assert_array_equal(results, np.concatenate(outputs, axis=1))


@needs_compiler
@pytest.mark.parametrize("network", [small_joins(), several_ends()], ids=["joins", "ends"])
def test_several_inputs_and_outputs(network: IntegerNetwork) -> None:
    check_ends(network, "-O0", "-fsanitize=undefined,address", "-static-libasan")


@needs_compiler
@settings(max_examples=8)
@given(st.one_of(badly_named(small_joins()), badly_named(several_ends())))
def test_names_cannot_end_comments(network: IntegerNetwork) -> None:
    check_ends(network)


@needs_compiler
def test_names_that_are_c() -> None:
    network = tiny_network()
    names = ["a */ #error", "b // /* \\", "c\n#error", 'd"??/']
    check_ends(renamed(network, names, [*names, "x */", "\\"][: len(network.tensors)]))


def test_intel_hex() -> None:
    assert intel_hex(bytes([1, 2, 255])) == b":030000000102FFFB\n:00000001FF\n"


def test_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(nupes.ArtifactError, match=r"output folder .*file must be writable"):
        export_firmware(small_network(), tmp_path / "file")


def test_the_header_says_what_a_mask_must_leave() -> None:
    network = masked(4, np.ones((1, 4), bool), 0)
    header = build_firmware(network)["network.h"].decode()
    assert "mask is a mask of attention: it must leave every query a key" in header
