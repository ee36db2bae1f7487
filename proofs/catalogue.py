"""The catalogue: every proof, and for which sizes of the array."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from proofs.blocks.bus import gearbox, reader, writer
from proofs.blocks.cells import cell, cell_configs
from proofs.blocks.chains import array, chain
from proofs.blocks.encoders import encoder
from proofs.blocks.fifos import corner_turn, fetcher, queue
from proofs.blocks.lanes import accumulator, token_stage
from proofs.blocks.memories import activation_memory, decoder, token_memory
from proofs.blocks.pools import max_pool
from proofs.blocks.ports import results, run_control, tiles
from proofs.blocks.reciprocals import digit_rule, reciprocal
from proofs.blocks.requantizer import element_product, requantizer, residual
from proofs.blocks.sums import statistics
from proofs.blocks.walks import walk
from proofs.harness import Harness

__all__ = ["Entry", "catalogue"]

SMALL = ArrayConfig(2, 2)
ATTENTION = ArrayConfig(4, 4, attention=True)


@dataclass(frozen=True)
class Entry:
    """One proof: the block's name, the sizes it is proven for, and how to build it.

    One that takes minutes is ``long``: not for continuous integration.
    """

    block: str
    sizes: str
    build: Callable[[str], Harness]
    long: bool = False

    @property
    def name(self) -> str:
        """A name that is a name in every language."""
        return "".join(c if c.isalnum() else "_" for c in f"{self.block} {self.sizes}".strip())

    def harness(self) -> Harness:
        """Return the design, its claims and assumptions."""
        return self.build(self.name)


def catalogue(long: bool = False) -> list[Entry]:
    """Return all proofs; with the ``long`` ones only if that is asked for."""
    return [entry for entry in entries() if long or not entry.long]


def entries() -> Iterator[Entry]:
    """Yield every proof."""
    for sizes, config in (
        ("32-bit sums", SMALL),
        ("16-bit sums", ArrayConfig(2, 2, acc_bits=16)),
        ("attention", ATTENTION),
    ):
        yield Entry("requantizer", sizes, lambda name, c=config: requantizer(c, name))
    for bits in (2, 4, 8):
        config = ArrayConfig(2, 2, code_bits=bits)
        yield Entry("residual term", f"{bits}-bit codes", lambda name, c=config: residual(c, name))
    yield Entry("residual term", "attention", lambda name: residual(ATTENTION, name))
    products = ArrayConfig(2, 2, products=True)
    yield Entry("element product", "", lambda name: element_product(products, name))
    for mac in ("decode", "uniform"):
        config = ArrayConfig(2, 2, mac=mac)
        yield Entry("accumulator", mac, lambda name, c=config: accumulator(c, name))
    for bits in (4, 6, 8):
        config = ArrayConfig(2, 2, tensor_bits=bits)
        sizes = f"{bits}-bit tensors"
        yield Entry("encoder", sizes, lambda name, c=config: encoder(c, name))
    yield Entry("reciprocal", "", reciprocal)
    yield Entry("digit of a root", "", digit_rule, long=True)
    yield Entry("token stage", "", token_stage)
    for sizes, config in cell_configs():
        yield Entry("cell", sizes, lambda name, c=config: cell(c, name))

    table = Destination.WEIGHT_TABLE
    yield Entry("decoder", "weights", lambda name: decoder(SMALL, table, 8, name))
    narrow = ArrayConfig(2, 2, code_bits=2)
    levels = Destination.ACTIVATION_TABLE
    yield Entry("decoder", "2-bit codes", lambda name: decoder(narrow, levels, 9, name))
    for sizes, config in (
        ("2x2", SMALL),
        ("4x2", ArrayConfig(4, 2)),
        ("attention", ATTENTION),
    ):
        yield Entry("activation memory", sizes, lambda name, c=config: activation_memory(c, name))
    yield Entry("token memory", "", lambda name: token_memory(ATTENTION, name))
    for depth, width in ((3, 4), (8, 16), (24, 33)):
        yield Entry("queue", f"{depth} words", lambda name, d=depth, w=width: queue(d, w, name))
    for rows, cols, bits in ((4, 4, 4), (6, 3, 3), (16, 4, 3)):
        sizes = f"{rows}x{cols}"
        yield Entry(
            "corner turn", sizes,
            lambda name, r=rows, c=cols, b=bits: corner_turn(r, c, b, name),
        )  # fmt: skip
    for burst, depth in ((32, 128), (1, 2), (5, 15)):
        config = ArrayConfig(2, 2, burst=burst, fetch_depth=depth)
        sizes = f"bursts of {burst}"
        yield Entry("fetcher", sizes, lambda name, c=config: fetcher(c, name))
    for sizes, config in (("2x2", SMALL), ("attention", ATTENTION)):
        yield Entry("sequencer", sizes, lambda name, c=config: tiles(c, name))
    for sizes, config in (("2x2", SMALL), ("attention", ATTENTION)):
        yield Entry("results", sizes, lambda name, c=config: results(c, name))
    yield Entry("run control", "", lambda name: run_control(SMALL, name))
    tall = ArrayConfig(4, 2, attention=True)
    yield Entry("statistics", "4x2", lambda name: statistics(tall, name))
    yield Entry("walk", "", walk)
    for bits in (2, 4):
        config = ArrayConfig(2, 2, code_bits=bits)
        yield Entry("max-pool", f"{bits}-bit codes", lambda name, c=config: max_pool(c, name))
    for row in range(3):
        sizes = f"from row {row}"
        yield Entry("chain", sizes, lambda name, r=row: chain(ArrayConfig(3, 3), r, name))
    few = ArrayConfig(3, 3, weight_level_bits=2, activation_level_bits=2)
    yield Entry("chains of an array", "3x3", lambda name: array(few, 14, name))
    for rows, data_bits in ((2, 64), (4, 128)):
        config = ArrayConfig(rows, rows)
        sizes = f"{data_bits} bits, words of {config.port_bits}"
        yield Entry("read master", sizes, lambda name, c=config, b=data_bits: reader(c, b, name))
    for data_bits in (64, 128):
        yield Entry("write master", f"{data_bits} bits", lambda name, b=data_bits: writer(b, name))
    for given, taken in ((64, 96), (96, 64), (128, 64), (32, 128), (48, 64)):
        sizes = f"{given} to {taken}"
        yield Entry("gearbox", sizes, lambda name, g=given, t=taken: gearbox(g, t, name))
