"""The exported driver: its files, its C, its Python against a device of Python, its own test."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

import nupes
from nupes.arch.bus import BusStatus, check_bus, memory_image, word_bytes
from nupes.arch.registers import REGISTERS, constants_of
from nupes.cli import main
from nupes.export.driver import build_driver, export_driver
from nupes.export.driver import folder as module
from nupes.export.driver.folder import vectors
from nupes.export.driver.registers import c_header, python_module, svd
from nupes.export.driver.tables import driver_tables
from nupes.model.errors import InputError
from nupes.model.network import IntegerNetwork
from tests.commands.run import message_of
from tests.export.test_firmware import COMPILER, STRICT, needs_compiler
from tests.rtl.interpreter import Machine
from tests.small import small_network
from tests.small_joins import small_joins
from tests.test_masks import masked

ARRAY = nupes.ArrayConfig(2, 2, acc_depth=16, act_depth=1024)
ODD = nupes.ArrayConfig(
    20, 2, code_bits=5, tensor_bits=8, acc_depth=16, act_depth=1024, products=True
)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do without the Verilog, which takes seconds."""
    monkeypatch.setattr(module, "verilog", lambda *_: "// the Verilog")


def python_driver(folder: Path) -> tuple[ModuleType, ModuleType]:
    """Return the modules of the Python driver of a folder, and of its registers."""
    found = []
    for name in ("nupes_registers", "nupes_driver"):
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded
        spec.loader.exec_module(loaded)
        found.append(loaded)
    for name in ("nupes_registers", "nupes_driver"):
        del sys.modules[name]
    return found[1], found[0]


class Buffer(np.ndarray):
    """Bytes at an address."""

    physical_address: int
    flushes = 0

    def flush(self) -> None:
        """Count."""
        self.flushes += 1


def buffer(size: int, address: int) -> Any:
    """Return a buffer."""
    made = np.full(size, 0xEE, np.uint8).view(Buffer)
    made.physical_address = address
    return made


class Device:
    """``nupes_axi`` in Python: registers, and a run that the interpreter of programs does."""

    def __init__(self, array: nupes.ArrayConfig, data_bits: int, *buffers: Any) -> None:
        self.array, self.buffers = array, {item.physical_address: item for item in buffers}
        self.content = {register.name: register.reset for register in REGISTERS}
        for (register, field), value in constants_of(array, data_bits).items():
            (low,) = (
                f.low for r in REGISTERS if r.name == register for f in r.fields if f.name == field
            )
            self.content[register] |= value << low
        self.names = {register.offset: register.name for register in REGISTERS}
        self.polls = 3
        self.end = BusStatus.OK

    def read(self, offset: int) -> int:
        """Return a register; a run takes some polls."""
        name = self.names[offset]
        if name == "STATUS" and not self.content[name] & 1:
            self.polls -= 1
            if self.polls == 0:
                self.content[name] = 3 | self.end << 4
        return self.content[name]

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        self.content[self.names[offset]] = value
        if self.names[offset] == "CONTROL" and value == 1:
            self.run()

    def wide(self, name: str) -> int:
        """Return an address."""
        return self.content[f"{name}_HIGH"] << 32 | self.content[f"{name}_LOW"]

    def run(self) -> None:
        """Execute the program in memory."""
        self.content["STATUS"], self.polls = 0, 3
        size, count = word_bytes(self.array.port_bits), self.content["PROGRAM_LENGTH"]
        raw = self.buffers[self.wide("PROGRAM")][: size * count].tobytes()
        machine = Machine(self.array)
        machine.memory = defaultdict(int, machine.memory)  # tables that nothing needs
        machine.run([int.from_bytes(raw[i : i + size], "little") for i in range(0, len(raw), size)])
        assert len(machine.results) == self.content["RESULT_LIMIT"]
        data = np.array(machine.results, "<i2").tobytes()
        self.buffers[self.wide("RESULT")][: len(data)] = np.frombuffer(data, np.uint8)


def expected(network: IntegerNetwork, codes: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the values of all outputs, one row for each image."""
    return np.concatenate([y.reshape(len(y), -1) for y in network.run_all(*codes)], axis=1)


NETWORKS = {"small": (small_network(), ARRAY), "joins": (small_joins(), ODD)}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("fast")
def test_the_python_driver(tmp_path: Path, name: str) -> None:
    """Images one after another, on a device that knows the program in memory alone."""
    network, array = NETWORKS[name]
    program = nupes.compile(network, array)
    export_driver(build_driver(program), tmp_path)
    driver, _ = python_driver(tmp_path)
    tables = driver.Network(tmp_path)
    image, results = buffer(tables.image_bytes, 0x1_2340_0010), buffer(tables.result_bytes, 0x40)
    device = Device(array, check_bus("axi4", None, array) or 0, image, results)
    accelerator = driver.Accelerator(device, image, results, tables)
    codes = vectors(program.network, 3)
    for number, y in enumerate(expected(network, codes)):
        flat = np.concatenate([part[number].reshape(-1) for part in codes])
        assert accelerator.run(flat).tolist() == y.tolist()
    assert image.flushes == 3
    with pytest.raises(ValueError, match="codes must be"):
        accelerator.run(flat[1:])
    device.end = BusStatus.READ_DECERR
    device.content["ERROR_LOW"] = 0x1000
    with pytest.raises(driver.DeviceError, match="ended with RUN_READ_DECERR at 0x1000"):
        accelerator.run(flat)
    device.content["STATUS"], device.polls = 0, -1
    with pytest.raises(driver.DeviceError, match="a run is under way"):
        accelerator.run(flat)
    with pytest.raises(driver.DeviceError, match="has not ended within 0 s"):
        accelerator.wait(0)
    device.content["CONFIGURATION"] ^= 1
    with pytest.raises(driver.DeviceError, match="compiled for another array"):
        driver.Accelerator(device, image, results, tables)
    device.content["IDENTITY"] ^= 1
    with pytest.raises(driver.DeviceError, match="no nupes_axi"):
        driver.Accelerator(device, image, results, tables)


@pytest.mark.usefixtures("fast")
def test_mapped_registers_and_memory(tmp_path: Path) -> None:
    export_driver(build_driver(nupes.compile(small_network(), ARRAY)), tmp_path)
    driver, _ = python_driver(tmp_path)
    (tmp_path / "mem").write_bytes(bytes(8192))
    registers = driver.Registers(tmp_path / "mem", 4096)
    registers.write(8, 0x12345678)
    assert registers.read(8) == 0x12345678
    memory = driver.Buffer(tmp_path / "mem", 4096, 16)
    assert memory.physical_address == 4096
    assert memory[8:12].tolist() == [0x78, 0x56, 0x34, 0x12]


HOST = r"""
#include <stdio.h>
#include <string.h>
#include "nupes_driver.h"

/* What the device of this test holds: nothing but registers that were written. */
static uint32_t content[1024];
static int runs;

uint32_t nupes_read(const nupes_device *device, uint32_t offset)
{
    (void)device;
    return content[offset / 4];
}

void nupes_write(const nupes_device *device, uint32_t offset, uint32_t value)
{
    content[offset / 4] = value;
    if (offset == NUPES_CONTROL) {
        fwrite(device->program, 1, NETWORK_IMAGE_BYTES, stdout);
        content[NUPES_STATUS / 4] = 3 | NUPES_RUN_OK << 4;
        runs++;
    }
}

static uint8_t program[NETWORK_IMAGE_BYTES], results[NETWORK_RESULT_BYTES];
static uint8_t codes[NETWORK_CODES];
static int16_t y[NETWORK_VALUES];

int main(void)
{
    nupes_device device = {0, program, 0x123456780ull, results, 0x987654320ull, NULL, NULL};
    FILE *file = fopen("program.bin", "rb");
    if (fread(program, 1, sizeof program, file) != sizeof program)
        return 1;
    fclose(file);
    file = fopen("codes.bin", "rb");
    if (fread(codes, 1, sizeof codes, file) != sizeof codes)
        return 2;
    fclose(file);
    if (nupes_check(&device) != NUPES_FOREIGN)
        return 3;
    content[NUPES_IDENTITY / 4] = NUPES_IDENTITY_MAGIC_VALUE;
    content[NUPES_VERSION / 4] = NUPES_MAP_MAJOR << 16;
    if (nupes_check(&device) != NUPES_OTHER_ARRAY)
        return 4;
    content[NUPES_CONFIGURATION / 4] = NETWORK_DIGEST;
    if (nupes_run(&device, codes, y, 10) != NUPES_BUSY)
        return 5;
    content[NUPES_STATUS / 4] = 1;
    if (nupes_wait(&device, 10) != NUPES_TOO_LONG)
        return 6;
    for (unsigned i = 0; i < NETWORK_RESULT_BYTES; i++)
        results[i] = (uint8_t)(i / 2 >> i % 2 * 8);
    if (nupes_run(&device, codes, y, 10) != NUPES_RUN_OK || runs != 1)
        return 7;
    for (unsigned i = 0; i < NETWORK_VALUES; i++)
        if ((uint32_t)(uint16_t)y[i] != (network_places[i] & 0xffff))
            return 8;
    if (content[NUPES_PROGRAM_LOW / 4] != 0x23456780 || content[NUPES_PROGRAM_HIGH / 4] != 1 ||
        content[NUPES_RESULT_LOW / 4] != 0x87654320 || content[NUPES_RESULT_HIGH / 4] != 9 ||
        content[NUPES_PROGRAM_LENGTH / 4] != NETWORK_WORDS ||
        content[NUPES_RESULT_LIMIT / 4] != NETWORK_RESULTS)
        return 9;
    return 0;
}
"""


@needs_compiler
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("fast")
def test_the_c_driver(tmp_path: Path, name: str) -> None:
    """Strict C99: the registers that it writes, and the program in memory when a run begins."""
    network, array = NETWORKS[name]
    program = nupes.compile(network, array)
    codes = vectors(program.network, 1)
    export_driver(build_driver(program, codes), tmp_path)
    (tmp_path / "host.c").write_text(HOST)
    assert COMPILER is not None
    options = [*STRICT, "-fsanitize=undefined,address", "-static-libasan", "-DNUPES_EXTERNAL_IO"]
    sources = ["host.c", "nupes_driver.c", "network.c"]
    command = [COMPILER, *options, *sources, "-o", "host"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    command = [COMPILER, *STRICT, "-c", "nupes_driver.c"]
    subprocess.run(command, cwd=tmp_path, check=True)  # registers that are memory
    ran = subprocess.run([tmp_path / "host"], cwd=tmp_path, capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    image = program.image.copy()
    places, words = program.input_patches(*(part[0] for part in codes))
    image[places] = words
    data_bits = check_bus("axi4", None, array) or 0
    assert ran.stdout == memory_image(image, array.port_bits, data_bits).tobytes()


def test_registers_of_software_are_those_of_the_map(tmp_path: Path) -> None:
    (tmp_path / "found.py").write_text(python_module())
    values: dict[str, Any] = {}
    exec(python_module(), values)
    shown = re.findall(r"^#define NUPES_(\w+) (\w+)u\b", c_header(), re.MULTILINE)
    assert {name: int(text, 16) for name, text in shown} == {
        name: value for name, value in values.items() if name.isupper()
    }
    for register in REGISTERS:
        assert values[register.name] == register.offset
        for field in register.fields:
            if field.width < 32:
                assert values[f"{register.name}_{field.name.upper()}_MASK"] == field.mask
    root = ElementTree.fromstring(svd(ARRAY, 64))
    found = {
        item.findtext("name"): (
            int(item.findtext("addressOffset") or "", 16),
            [field.findtext("name") for field in item.iter("field")],
        )
        for item in root.iter("register")
    }
    assert found == {
        register.name: (register.offset, [field.name for field in register.fields])
        for register in REGISTERS
    }
    (array,) = (item for item in root.iter("register") if item.findtext("name") == "ARRAY")
    assert int(array.findtext("resetValue") or "", 16) & 0xFFFF == 2 << 8 | 2


@pytest.mark.usefixtures("fast")
def test_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The command writes every file that the others name; the same network, the same bytes."""
    monkeypatch.chdir(tmp_path)
    small_network().save("net.safetensors")
    np.savez("data.npz", x=np.zeros((3, 1, 4, 4)))
    words = ["export", "net.safetensors", "--driver", "d", "--array", "2x2,acc_depth=16"]
    assert main(words) == 0
    line = capsys.readouterr().out.strip()
    assert re.fullmatch(r"driver: d/ \(2x2 array, [\d,]+ bytes of program; .*\)", line)
    before = {path.name: path.read_bytes() for path in Path("d").iterdir()}
    assert main([*words, "--data", "data.npz", "--json"]) == 0
    assert sorted(json.loads(capsys.readouterr().out)["driver"]["files"]) == sorted(before)
    after = {path.name: path.read_bytes() for path in Path("d").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"codes.bin", "expected.bin"}
    assert after["codes.bin"] == bytes(32)
    core = yaml.safe_load(before["nupes.core"].decode().partition("\n")[2])
    for fileset in core["filesets"].values():
        assert {name for item in fileset["files"] for name in item} <= set(before)
    named = set(re.findall(r"`([\w]+\.\w+)`", before["README.md"].decode()))
    assert named - {"program.bin"} <= set(before)


@pytest.mark.usefixtures("fast")
def test_what_no_driver_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    masked(4, np.ones((1, 4), bool), 0).save("masked.safetensors")
    words = ["--driver", "d", "--array", "4x4,attention=1,products=1"]
    assert main(["export", "masked.safetensors", *words]) == 2
    assert message_of(capsys.readouterr().err.splitlines()[-1]) == (
        "driver of a network whose inputs mask scores must have --data, images of it, not random "
        "test vectors"
    )
    (tmp_path / "d").write_text("")
    small_network().save("net.safetensors")
    assert main(["export", "net.safetensors", "--driver", "d", "--array", "2x2"]) == 2
    message = message_of(capsys.readouterr().err.splitlines()[-1])
    assert message == "output folder d must be writable: File exists"


@pytest.mark.slow
def test_the_exported_test(tmp_path: Path) -> None:
    """``make`` in an empty place, with what a user has: Verilator, a compiler, make. Words of 100
    bits on a bus of 128, several inputs and outputs."""
    export_driver(build_driver(nupes.compile(small_joins(), ODD)), tmp_path / "d")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME", "TMPDIR", "LANG")
    }
    paths = [str(Path(sys.executable).parent), environment["PATH"]]
    environment["PATH"] = os.pathsep.join(paths)
    make = shutil.which("make")
    assert make is not None
    command = [make, "OPT=-O0"]  # which is compiled sooner
    result = subprocess.run(
        command, cwd=tmp_path / "d", env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    line = "bit-exact 2/2 images, interrupt raised, bus error reported"
    assert result.stdout.strip().endswith(line)


def test_a_driver_takes_one_image() -> None:
    with pytest.raises(InputError, match="must take one image, not a batch of 2"):
        driver_tables(nupes.compile(small_network(), ARRAY, batch=2))
