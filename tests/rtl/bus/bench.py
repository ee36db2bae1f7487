"""Around ``nupes_axi`` in a simulator: a memory, the registers, and a watch on AXI's rules."""

import logging
import random
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiResp, AxiSlave

from nupes.arch.bus import BusStatus, memory_image, result_bytes
from nupes.arch.config import ArrayConfig
from nupes.arch.registers import REGISTERS
from nupes.sim.files import port_words

__all__ = ["Bench", "Outcome"]

OFFSETS = {register.name: register.offset for register in REGISTERS}
STATUS = next(register for register in REGISTERS if register.name == "STATUS")
PAGE = 4096

CHANNELS = {
    "ar": ("araddr", "arlen", "arsize", "arburst", "arcache", "arprot"),
    "aw": ("awaddr", "awlen", "awsize", "awburst", "awcache", "awprot"),
    "w": ("wdata", "wstrb", "wlast"),
}
"""What must hold while a channel's ``valid`` waits for ``ready``."""

Outcome = tuple[BusStatus, list[list[int]]]


class Memory:
    """What the managers see: a program that may be read, a buffer that may be written."""

    def __init__(self, clock: Any, latency: int, chance: random.Random) -> None:
        self.clock = clock
        self.latency = latency
        self.chance = chance
        self.program: tuple[int, bytes] = (0, b"")
        self.buffer: tuple[int, bytearray] = (0, bytearray())
        self.bad: set[int] = set()
        """Addresses of beats that are answered with an error."""
        self.reads: list[int] = []
        self.outside: list[int] = []

    async def wait(self) -> None:
        """Let some cycles pass, now and then."""
        if self.latency and self.chance.random() < 0.1:
            await ClockCycles(self.clock, self.chance.randint(1, self.latency))

    async def read(self, address: int, length: int) -> bytes:
        """Return a beat."""
        await self.wait()
        self.reads.append(address)
        base, data = self.program
        if not base <= address <= base + len(data) - length:
            self.outside.append(address)
            return bytes(length)
        if address in self.bad:
            raise ValueError
        return data[address - base : address - base + length]

    async def write(self, address: int, data: bytes) -> None:
        """Store some bytes."""
        await self.wait()
        base, stored = self.buffer
        if not base <= address <= base + len(stored) - len(data):
            self.outside.append(address)
            return
        if any(address <= bad < address + len(data) for bad in self.bad):
            raise ValueError
        stored[address - base : address - base + len(data)] = data


class Bench:
    """A running ``nupes_axi``; ``pause`` is how often each channel waits, from 0 to 1."""

    def __init__(
        self,
        dut: Any,
        config: ArrayConfig,
        data_bits: int,
        seed: int = 0,
        pause: float = 0,
        latency: int = 0,
    ) -> None:
        self.dut, self.config, self.data_bits = dut, config, data_bits
        self.chance = random.Random(seed)
        logging.getLogger(f"cocotb.{dut._name}").setLevel("ERROR")
        cocotb.start_soon(Clock(dut.aclk, 2, unit="step").start())
        dut.aresetn.value = 0
        common = dut.aclk, dut.aresetn
        self.registers = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axil"), *common, reset_active_level=False
        )
        self.memory = Memory(dut.aclk, latency, self.chance)
        self.slave = AxiSlave(
            AxiBus.from_prefix(dut, "m_axi"), *common, target=self.memory, reset_active_level=False
        )
        for name in ("ar_channel", "r_channel"):
            self.spread(getattr(self.slave.read_if, name), pause)
            self.spread(getattr(self.registers.read_if, name), pause)
        for name in ("aw_channel", "w_channel", "b_channel"):
            self.spread(getattr(self.slave.write_if, name), pause)
            self.spread(getattr(self.registers.write_if, name), pause)
        self.response = AxiResp.SLVERR
        self.replace_errors(self.slave.read_if.r_channel, "rresp")
        self.replace_errors(self.slave.write_if.b_channel, "bresp")
        self.broken: list[str] = []
        cocotb.start_soon(self.watch())

    def spread(self, channel: Any, pause: float) -> None:
        """Let a channel wait at random."""
        chance = random.Random(self.chance.random())

        def pauses() -> Iterator[bool]:
            while True:
                yield chance.random() < pause

        if pause:
            channel.set_pause_generator(pauses())

    def replace_errors(self, channel: Any, name: str) -> None:
        """Let the memory's errors be ``response``."""
        send = channel.send

        async def replaced(transaction: Any) -> None:
            if getattr(transaction, name) != AxiResp.OKAY:
                setattr(transaction, name, self.response)
            await send(transaction)

        channel.send = replaced

    async def watch(self) -> None:
        """Note what breaks a rule of AXI, cycle by cycle."""
        waiting: dict[str, tuple[int, ...]] = {}
        beat = self.data_bits // 8

        def pin(name: str) -> Any:
            return getattr(self.dut, f"m_axi_{name}")

        handles = {
            channel: (pin(f"{channel}valid"), pin(f"{channel}ready"), [pin(name) for name in names])
            for channel, names in CHANNELS.items()
        }
        while True:
            await RisingEdge(self.dut.aclk)
            await ReadOnly()
            if not int(self.dut.aresetn.value):
                waiting.clear()
                continue
            for channel, (valid, ready, signals) in handles.items():
                if not int(valid.value):
                    if waiting.pop(channel, None) is not None:
                        self.broken.append(f"{channel} did not wait")
                    continue
                payload = tuple(int(signal.value) for signal in signals)
                if waiting.pop(channel, payload) != payload:
                    self.broken.append(f"{channel} changed while it waited")
                if not int(ready.value):
                    waiting[channel] = payload
                if channel != "w":
                    address, length, size, burst, *_ = payload
                    end = address + (length + 1) * beat - 1
                    if address // PAGE != end // PAGE or address % beat:
                        self.broken.append(f"{channel} {address:#x} of {length + 1} beats")
                    if burst != 1 or 1 << size != beat:
                        self.broken.append(f"{channel} burst {burst} size {size}")

    async def reset(self, cycles: int = 2) -> None:
        """Reset everything, the memory's bursts too."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, cycles)
        self.dut.aresetn.value = 1
        await ClockCycles(self.dut.aclk, 1)

    async def write(self, name: str, value: int) -> None:
        """Write a register."""
        await self.registers.write_dword(OFFSETS[name], value)

    async def read(self, name: str) -> int:
        """Read a register."""
        return await self.registers.read_dword(OFFSETS[name])

    async def read_wide(self, name: str) -> int:
        """Read a pair of registers."""
        return await self.read(f"{name}_LOW") | await self.read(f"{name}_HIGH") << 32

    async def status(self) -> dict[str, int]:
        """Read the fields of STATUS."""
        value = await self.read("STATUS")
        return {f.name: value >> f.low & (1 << f.width) - 1 for f in STATUS.fields}

    async def begin(
        self, words: list[int], results: int, base: int = 0, buffer: int = 1 << 40
    ) -> None:
        """Start a program at ``base`` with a buffer of ``results`` results."""
        rows = port_words(words, self.config.port_bits)
        image = memory_image(rows, self.config.port_bits, self.data_bits)
        self.memory.program = base, image.tobytes()
        size = results * result_bytes(self.config.cols)
        self.memory.buffer = buffer, bytearray(b"\xee" * size)
        for name, value in (("PROGRAM", base), ("RESULT", buffer)):
            await self.write(f"{name}_LOW", value & 0xFFFFFFFF)
            await self.write(f"{name}_HIGH", value >> 32)
        await self.write("PROGRAM_LENGTH", len(words))
        await self.write("RESULT_LIMIT", results)
        await self.write("INTERRUPT_STATE", 1)
        await self.write("INTERRUPT_ENABLE", 1)
        self.memory.reads.clear()
        await self.write("CONTROL", 1)

    async def finish(self) -> Outcome:
        """Wait for the interrupt; return how the run ended and the results in the buffer."""
        for _ in range(200000):
            if int(self.dut.irq.value):
                break
            await RisingEdge(self.dut.aclk)
        status = await self.status()
        assert status["done"], status
        assert await self.read("INTERRUPT_STATE") == 1
        await self.write("INTERRUPT_STATE", 1)
        assert not int(self.dut.irq.value)
        assert self.broken == []
        assert self.memory.outside == []
        count = await self.read("RESULT_COUNT")
        lanes = np.frombuffer(bytes(self.memory.buffer[1]), "<i2").reshape(-1, self.config.cols)
        return BusStatus(status["status"]), lanes[:count].tolist()

    async def until_idle(self) -> None:
        """Wait until a run may begin."""
        for _ in range(1000):
            if (await self.status())["idle"]:
                return
        raise AssertionError("not idle")
