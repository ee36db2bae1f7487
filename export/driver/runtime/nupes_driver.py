"""A driver of nupes_axi for Linux: registers through mmap, or PYNQ's MMIO and buffers.

On PYNQ:

    overlay = pynq.Overlay("design.bit")
    registers = pynq.MMIO(overlay.ip_dict["nupes_axi_0"]["phys_addr"], 4096)
    network = Network(".")
    program = pynq.allocate(network.image_bytes, "u1")
    results = pynq.allocate(network.result_bytes, "u1")
    y = Accelerator(registers, program, results, network).run(codes)

Elsewhere: ``Registers("/dev/mem", 0x43C00000)`` or a UIO device, and buffers that have a
``physical_address`` (NumPy arrays of bytes in reserved memory; ``Buffer`` makes them).
"""

import mmap
import os
import struct
import time
from pathlib import Path

import numpy as np
import nupes_registers as R

CONSTANT = 1 << 31
"""Of a source: the digit itself is in its low bits."""


class DeviceError(Exception):
    """The accelerator is not what the network needs, or a run did not end well."""


class Registers:
    """32-bit registers in a file that can be mapped, such as /dev/mem or /dev/uio0."""

    def __init__(self, path, address=0, size=4096):
        handle = os.open(path, os.O_RDWR | os.O_SYNC)
        try:
            self.memory = mmap.mmap(handle, size, offset=address)
        finally:
            os.close(handle)

    def read(self, offset):
        """Return a register."""
        return struct.unpack_from("<I", self.memory, offset)[0]

    def write(self, offset, value):
        """Write a register."""
        struct.pack_into("<I", self.memory, offset, value)


class Buffer(np.ndarray):
    """Bytes in a file that can be mapped, at a ``physical_address`` of the accelerator's bus."""

    def __new__(cls, path, address, size, offset=None):
        handle = os.open(path, os.O_RDWR | os.O_SYNC)
        try:
            memory = mmap.mmap(handle, size, offset=address if offset is None else offset)
        finally:
            os.close(handle)
        array = np.frombuffer(memory, np.uint8).view(cls)
        array.physical_address = address
        return array


class Network:
    """What the driver must know of a program: the files program.bin and network.npz of a folder."""

    def __init__(self, folder="."):
        tables = np.load(Path(folder) / "network.npz")
        self.image = np.fromfile(Path(folder) / "program.bin", np.uint8)
        for name in ("holes", "sources", "digits", "places"):
            setattr(self, name, tables[name])
        for name in ("words", "word_bytes", "code_bits", "cols", "results", "digest", "codes"):
            setattr(self, name, int(tables[name]))

    @property
    def image_bytes(self):
        """Bytes of the program's buffer."""
        return len(self.image)

    @property
    def result_bytes(self):
        """Bytes of the results' buffer."""
        return 2 * self.results * self.cols

    def input_words(self, codes):
        """Return the bytes of the words that hold the codes of all inputs, uint8 (holes, n)."""
        codes = np.asarray(codes, np.uint8).reshape(-1)
        if len(codes) != self.codes:
            raise ValueError(f"codes must be {self.codes}, not {len(codes)}")
        constant = self.sources >= CONSTANT
        index = np.where(constant, 0, self.sources & 0xFFFFFF)
        row = np.where(constant, 0, self.sources >> 24)
        digits = np.where(constant, self.sources & 0xFF, self.digits[row, codes[index]])
        bits = np.unpackbits(
            digits.astype(np.uint8)[..., None], axis=2, count=self.code_bits, bitorder="little"
        )
        packed = np.packbits(bits.reshape(len(digits), -1), axis=1, bitorder="little")
        words = np.zeros((len(digits), self.word_bytes), np.uint8)
        words[:, : packed.shape[1]] = packed
        return words


class Accelerator:
    """The accelerator with a network's program in memory.

    ``registers`` has ``read(offset)`` and ``write(offset, value)``. ``program`` and ``results`` are
    arrays of bytes with a ``physical_address``, a multiple of 16; if they have ``flush`` and
    ``invalidate``, as PYNQ's have, these are called.
    """

    def __init__(self, registers, program, results, network):
        self.registers, self.program, self.results = registers, program, results
        self.network = network
        version = registers.read(R.VERSION) >> R.VERSION_MAJOR_LOW_BIT
        if registers.read(R.IDENTITY) != R.IDENTITY_MAGIC_VALUE or version != R.MAP_MAJOR:
            raise DeviceError("no nupes_axi of this register map is here")
        if registers.read(R.CONFIGURATION) != network.digest:
            raise DeviceError("the program was compiled for another array")
        program[: network.image_bytes] = network.image

    def start(self, codes):
        """Start a run on the codes of all inputs, (height, width, channel) each."""
        network, program = self.network, self.program
        words = program[: network.words * network.word_bytes].reshape(network.words, -1)
        words[network.holes] = network.input_words(codes)
        call(program, "flush")
        call(self.results, "invalidate")
        if not self.registers.read(R.STATUS) & R.STATUS_IDLE_MASK:
            raise DeviceError("a run is under way")
        write = self.registers.write
        for low, high, buffer in (
            (R.PROGRAM_LOW, R.PROGRAM_HIGH, program),
            (R.RESULT_LOW, R.RESULT_HIGH, self.results),
        ):
            write(low, buffer.physical_address & 0xFFFFFFFF)
            write(high, buffer.physical_address >> 32)
        write(R.PROGRAM_LENGTH, network.words)
        write(R.RESULT_LIMIT, network.results)
        write(R.INTERRUPT_STATE, R.INTERRUPT_STATE_DONE_MASK)
        write(R.CONTROL, R.CONTROL_START_MASK)

    def wait(self, seconds=10.0):
        """Wait for the end of the run; raise ``DeviceError`` unless it was OK."""
        both = R.STATUS_DONE_MASK | R.STATUS_IDLE_MASK
        deadline = time.monotonic() + seconds
        while (status := self.registers.read(R.STATUS)) & both != both:
            if time.monotonic() > deadline:
                raise DeviceError(f"the run has not ended within {seconds} s")
        result = (status & R.STATUS_STATUS_MASK) >> R.STATUS_STATUS_LOW_BIT
        if result != R.RUN_OK:
            names = {value: name for name, value in vars(R).items() if name[:4] == "RUN_"}
            where = self.wide(R.ERROR_LOW, R.ERROR_HIGH)
            raise DeviceError(f"the run ended with {names.get(result, result)} at {where:#x}")

    def output(self):
        """Return the values of all outputs, int16, one output after another."""
        call(self.results, "invalidate")
        numbers = np.asarray(self.results[: self.network.result_bytes]).view("<i2")
        return numbers[self.network.places].astype(np.int16)

    def run(self, codes, seconds=10.0):
        """Return the values of all outputs for the codes of all inputs."""
        self.start(codes)
        self.wait(seconds)
        return self.output()

    @property
    def cycles(self):
        """Cycles of the last run."""
        return self.wide(R.CYCLES_LOW, R.CYCLES_HIGH)

    def wide(self, low, high):
        """Return a number of two registers."""
        return self.registers.read(high) << 32 | self.registers.read(low)


def call(buffer, name):
    """Call a method of a buffer that has it."""
    if hasattr(buffer, name):
        getattr(buffer, name)()
