"""The register block against the map, over AXI4-Lite with pauses."""

import random
from typing import Any

from amaranth.hdl import Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.cells import CELLS
from nupes.arch.config import ArrayConfig
from nupes.arch.registers import REGISTERS, Access, constants_of
from nupes.rtl.bus.registers import OKAY, SLVERR, RegisterBlock, port_of
from tests.rtl.bench import execute

CONFIG = ArrayConfig(4, 2, products=True, acc_depth=16)
OFFSETS = {register.offset: register for register in REGISTERS}


class Software:
    """An AXI4-Lite manager that waits at random."""

    def __init__(self, block: RegisterBlock, context: Any, chance: random.Random) -> None:
        self.bus, self.context, self.chance = block.bus, context, chance
        self.block = block
        self.strobes: list[str] = []

    async def tick(self) -> None:
        """End a cycle; note the strobes of it."""
        for register in REGISTERS:
            for field in register.fields if register.access is Access.STROBE else ():
                if self.context.get(getattr(self.block, port_of(register.name, field.name))):
                    self.strobes.append(field.name)
        await self.context.tick()

    async def send(self, channel: str, **payload: int) -> None:
        """Transfer on a channel of requests, after some cycles."""
        while self.chance.random() < 0.3:
            await self.tick()
        for name, value in payload.items():
            self.context.set(getattr(self.bus, name), value)
        self.context.set(getattr(self.bus, f"{channel}valid"), 1)
        taken = False
        while not taken:
            taken = bool(self.context.get(getattr(self.bus, f"{channel}ready")))
            await self.tick()
        self.context.set(getattr(self.bus, f"{channel}valid"), 0)

    async def receive(self, channel: str, *names: str) -> tuple[int, ...]:
        """Take a response, after some cycles in which it stays as it is."""
        valid, ready = (getattr(self.bus, f"{channel}{end}") for end in ("valid", "ready"))
        seen: set[tuple[int, ...]] = set()
        while True:
            takes = self.chance.random() < 0.5
            self.context.set(ready, takes)
            if self.context.get(valid):
                seen.add(tuple(self.context.get(getattr(self.bus, name)) for name in names))
                if takes:
                    break
            await self.tick()
        await self.tick()
        self.context.set(ready, 0)
        (response,) = seen
        return response

    async def write(self, offset: int, value: int, lanes: int) -> int:
        """Write a register; return the response."""
        parts = [("aw", {"awaddr": offset}), ("w", {"wdata": value, "wstrb": lanes})]
        self.chance.shuffle(parts)
        for channel, payload in parts:
            await self.send(channel, **payload)
        (response,) = await self.receive("b", "bresp")
        return response

    async def read(self, offset: int) -> tuple[int, ...]:
        """Return what a register reads as, and the response."""
        await self.send("ar", araddr=offset)
        return await self.receive("r", "rdata", "rresp")


STEPS = st.lists(
    st.tuples(
        st.sampled_from([*OFFSETS, REGISTERS[-1].offset + 4, 0xFFC]),
        st.integers(0, 2**32 - 1),
        st.integers(0, 15),
        st.integers(0, 1),
    ),
    max_size=20,
)


@settings(max_examples=8)
@given(STEPS, st.integers(0, 2**32 - 1))
def test_registers_are_those_of_the_map(steps: list, seed: int) -> None:
    """Random writes and reads, with the state of the hardware changing in between."""
    block = RegisterBlock(constants_of(CONFIG, 64))
    known = constants_of(CONFIG, 64)

    async def bench(context: Any, reset: Signal) -> None:
        chance = random.Random(seed)
        software = Software(block, context, chance)
        content = {
            register.offset: sum(
                known.get((register.name, field.name), field.reset) << field.low
                for field in register.fields
            )
            for register in REGISTERS
        }
        for offset in [o for o, item in OFFSETS.items() if item.access is Access.STATE]:
            content[offset] = 0  # nothing drives the ports yet
        for offset, value, lanes, event in steps:
            if event:
                context.set(block.interrupt_state_done_set, 1)
                await software.tick()
                context.set(block.interrupt_state_done_set, 0)
                content[0x4C] = 1
                state = chance.choice([r for r in REGISTERS if r.access is Access.STATE])
                field = chance.choice(state.fields)
                number = chance.getrandbits(field.width)
                context.set(getattr(block, port_of(state.name, field.name)), number)
                content[state.offset] &= ~field.mask
                content[state.offset] |= number << field.low
            register = OFFSETS.get(offset)
            software.strobes.clear()
            expected = OKAY if register else SLVERR
            assert await software.write(offset, value, lanes) == expected
            mask = sum(0xFF << 8 * lane for lane in range(4) if lanes >> lane & 1)
            strobes = []
            if register and register.access is Access.STORED:
                mask &= sum(field.mask for field in register.fields)
                content[offset] = content[offset] & ~mask | value & mask
            elif register and register.access is Access.STICKY:
                content[offset] &= ~(value & mask)
            elif register and register.access is Access.STROBE:
                strobes = [f.name for f in register.fields if value & mask & f.mask]
            assert software.strobes == strobes
            assert await software.read(offset) == (content.get(offset, 0), expected)

    execute(block, bench)


def test_the_map_is_sound() -> None:
    """Registers and fields do not overlap; names are unique; constants are known."""
    assert [register.offset for register in REGISTERS] == list(range(0, 4 * len(REGISTERS), 4))
    assert len({register.name for register in REGISTERS}) == len(REGISTERS)
    for register in REGISTERS:
        bits = 0
        for field in register.fields:
            assert field.mask < 1 << 32
            assert not bits & field.mask
            bits |= field.mask
            assert field.reset < 1 << field.width
            assert field.values is None or max(field.values) < 1 << field.width
    fields = {(r.name, f.name): f for r in REGISTERS for f in r.fields}
    assert tuple(kind.name.lower() for kind in fields["ARRAY", "mac"].values) == CELLS
    for name, value in constants_of(CONFIG, 128).items():
        assert value < 1 << fields[name].width


def test_a_set_wins_over_a_clear() -> None:
    """An event in the cycle in which software clears the last one is not lost."""
    block = RegisterBlock({})

    async def bench(context: Any, reset: Signal) -> None:
        context.set(block.interrupt_state_done_set, 1)
        software = Software(block, context, random.Random(0))
        assert await software.write(0x4C, 1, 15) == OKAY
        context.set(block.interrupt_state_done_set, 0)
        assert await software.read(0x4C) == (1, OKAY)
        assert await software.write(0x4C, 1, 15) == OKAY
        assert await software.read(0x4C) == (0, OKAY)

    execute(block, bench)
