"""Accesses: how often a program reads and writes each memory, and the words that cross the port.

Every memory of every row, column or lane counts on its own, so a word that goes to the accumulators
of all columns is one access for each of them. A read counts if a block asks for the word: the read
ports of the hardware have no enable, and what they show in other cycles nobody takes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nupes.arch.config import ArrayConfig
from nupes.arch.costs import access_bits
from nupes.arch.isa import Destination, Scaled, entry_bits
from nupes.compiler.emit.instructions import Instruction, Load, Measure, Pool, Store, Tile
from nupes.compiler.emit.streamed import Streamed
from nupes.compiler.lowering.passes import Stored

__all__ = ["Accesses", "accesses_of", "inside"]


@dataclass(frozen=True)
class Accesses:
    """How often each memory is read and written, by its name (docs/performance.md), and how many
    port words of the program come, results go to the host (16 bits of each column), and port words
    are stored in the program's memory."""

    reads: Mapping[str, int]
    writes: Mapping[str, int]
    fetched: int
    results: int
    stored: int

    def __add__(self, other: "Accesses") -> "Accesses":
        """Return the accesses of both."""
        return Accesses(
            {name: count + other.reads[name] for name, count in self.reads.items()},
            {name: count + other.writes[name] for name, count in self.writes.items()},
            self.fetched + other.fetched,
            self.results + other.results,
            self.stored + other.stored,
        )

    def as_dict(self) -> dict:
        """Return everything as JSON data."""
        return {
            "memories": {
                name: {"reads": self.reads[name], "writes": self.writes[name]}
                for name in self.reads
            },
            "port": {"fetched": self.fetched, "results": self.results, "stored": self.stored},
        }


def accesses_of(program: Iterable[Instruction], config: ArrayConfig) -> Accesses:
    """Return what some instructions access, payloads included; exact, and what the RTL does."""
    reads: Counter[str] = Counter()
    writes: Counter[str] = Counter()
    for item in program:
        words = item.words + (0 if item.follows else config.instruction_words)
        reads["fetch_buffer"] += words
        writes["fetch_buffer"] += words
        if isinstance(item, Load):
            load(item, config, writes)
        elif isinstance(item, Tile):
            tile(item, config, reads, writes)
        elif isinstance(item, Pool):
            reads["activations"] += inside(item)
            writes["activations"] += item.count * item.writes
        elif isinstance(item, Measure):
            measure(item, config, reads, writes)
        elif isinstance(item, Store):
            reads["activations"] += item.streamed
            reads["store_queue"] += item.count
            writes["store_queue"] += item.count
    names = access_bits(config)
    return Accesses(
        {name: reads[name] for name in names},
        {name: writes[name] for name in names},
        writes["fetch_buffer"],
        writes["result_queue"],
        writes["store_queue"],
    )


def load(item: Load, config: ArrayConfig, writes: Counter[str]) -> None:
    """Add the entries that a LOAD writes: tables are written in all rows, columns or lanes."""
    words, destination = item.words, item.destination
    if destination == Destination.ACTIVATION:
        writes["activations"] += words
    elif destination == Destination.WEIGHT_TABLE:
        writes["weight_tables"] += config.cols * words
    elif destination == Destination.ACTIVATION_TABLE:
        # Entry 0 of each table is also where offsets of joined digits are.
        size = 1 << entry_bits(destination, config)
        firsts = -(-(item.address + words) // size) - -(-item.address // size)
        writes["activation_tables"] += config.rows * words + config.joins * firsts
        writes["token_tables"] += config.lanes * words
    elif destination == Destination.RESIDUAL_TABLE:
        writes["residual_tables"] += config.cols * words
    elif destination == Destination.SCALE:
        writes["scales"] += words
    elif destination == Destination.SHIFT:
        writes["shifts"] += words
    elif destination == Destination.THRESHOLD:
        writes["thresholds"] += config.cols * words
    elif destination == Destination.MAP:
        writes["codes"] += config.cols * words
    elif destination == Destination.PRODUCT:
        writes["product_tables"] += config.rows * config.cols * words


def tile(item: Tile, config: ArrayConfig, reads: Counter[str], writes: Counter[str]) -> None:
    """Add what a TILE, MULTIPLY or MATMUL accesses."""
    cols, rows, count = config.cols, item.payload.rows, item.count
    weights(item, config, reads, writes)

    # Words become operands of the rows that the tile carries.
    words = inside(item)
    reads["activations"] += words * (1 + item.joined)
    reads["activation_tables"] += words if item.joined else rows * words
    reads["product_tables"] += rows * cols * words

    # Their sums go into the accumulators; the first ones of a pixel need not be read.
    sums = item.per_pixel * count
    reads["accumulators"] += cols * (sums - count * item.first)
    writes["accumulators"] += cols * sums

    # A stored tensor comes at the residual port, for each sum or each result.
    seconds = sums if item.multiplies else count * item.finish
    planes = item.descriptor.results.residual_planes
    reads["activations"] += seconds * planes
    reads["residual_tables"] += cols * seconds * (planes == 1)
    reads["shifts"] += cols * seconds
    if item.finish:
        results(item, config, reads, writes)


def weights(item: Tile, config: ArrayConfig, reads: Counter[str], writes: Counter[str]) -> None:
    """Add what the weights of a tile take: each row comes to all columns, and all cells take theirs
    with the first word."""
    if item.kept:
        return
    rows = item.payload.rows
    if isinstance(item.payload, Stored):
        reads["activations"] += config.cols if item.payload.transposed else rows
    reads["weight_tables"] += config.cols * rows
    writes["weights"] += config.cols * rows
    reads["weights"] += config.cols * config.rows


def results(item: Tile, config: ArrayConfig, reads: Counter[str], writes: Counter[str]) -> None:
    """Add what the results of a tile access."""
    cols, count, tokens = config.cols, item.count, item.descriptor.tokens
    depth = item.descriptor.results.encoder_depth
    reads["scales"] += cols * count
    reads["thresholds"] += cols * count * depth
    reads["codes"] += cols * count * (depth > 0)
    reads["token_factors"] += count * (tokens.scaled != Scaled.NONE)
    if item.to_host:
        reads["result_queue"] += count
        writes["result_queue"] += count
    else:
        writes["activations"] += count * item.writes
    if item.gathers:
        reads["token_tables"] += cols * count * (not tokens.linear)
        reads["token_sums"] += count * (not item.gathers_first)
        writes["token_sums"] += count
        factors(count * item.gathers_last, reads, writes)


def measure(item: Measure, config: ArrayConfig, reads: Counter[str], writes: Counter[str]) -> None:
    """Add what a MEASURE accesses: two planes of a word at a time, the first one alone of an odd
    number; one sum for each channel group of a token."""
    walk, tokens, count = item.descriptor.walk, item.descriptor.tokens, item.count
    groups = walk.kernel_h
    reads["activations"] += 2 * item.streamed - count * groups * tokens.odd
    reads["token_tables"] += config.lanes * item.streamed * (not tokens.linear)
    reads["token_sums"] += count * (groups - 1)
    writes["token_sums"] += count * groups
    factors(count, reads, writes)


def factors(count: int, reads: Counter[str], writes: Counter[str]) -> None:
    """Add what the factors of so many tokens access until they are there."""
    reads["token_tags"] += count
    writes["token_tags"] += count
    writes["token_factors"] += count


def inside(item: Streamed) -> int:
    """Return how many of the words that are streamed lie in the map; no others are read."""
    walk, start, width = item.descriptor.walk, item.start, item.descriptor.walk.out_width
    batch = walk.planes == 0  # kernel rows are rows of an image
    kernel = 1 if batch else walk.kernel_h
    taps_x = [walk.dilation_x * tap for tap in range(walk.kernel_w)]
    taps_y = [walk.dilation_y * tap for tap in range(kernel)]
    found, left, row = 0, item.count, 0
    pixels, x = min(item.count, width - start.column), start.x
    across: dict[tuple[int, int], int] = {}
    while left:
        y = start.y + (row % walk.kernel_h if batch else row) * walk.stride_y
        lines = sum(0 <= y + tap < walk.height for tap in taps_y)
        if lines and (x, pixels) not in across:
            steps = pixels + item.warm_up
            across[x, pixels] = sum(
                within(x + tap, walk.stride_x, steps, walk.width) for tap in taps_x
            )
        found += lines * across[x, pixels] if lines else 0
        left, row, x = left - pixels, row + 1, start.row_x
        pixels = min(left, width)
    return found * max(walk.planes, 1)


def within(first: int, step: int, count: int, size: int) -> int:
    """Return how many of ``count`` numbers, from ``first`` on and ``step`` apart, are from 0 on and
    below ``size``."""
    if step == 0:
        return count * (0 <= first < size)
    low = max(0, -(first // step))  # the first one from 0 on
    high = min(count, -(-(size - first) // step))  # the first one from size on
    return max(0, high - low)


def total(parts: Sequence[Accesses]) -> Accesses:
    """Return the accesses of all parts."""
    first, *others = parts
    return sum(others, first)
