"""The instruction set: one declarative table from which hardware, compiler and documentation are
built.

A program is one linear stream of port words: an instruction, then its payload, then the next
instruction. The hardware reads it front to back, once. There is no Amaranth here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from nupes.arch.config import PARAM_SLOT_BITS, TABLE_SLOT_BITS, ArrayConfig, clog2
from nupes.model.errors import InputError

__all__ = [
    "ATTENTION_WORDS",
    "BANKS",
    "CHECKSUM_BITS",
    "DESCRIPTOR",
    "DESCRIPTOR_WORDS",
    "INSTRUCTION",
    "LAG_FREE",
    "RUN",
    "RUN_POSITION",
    "SCALE_ENTRY",
    "SHIFT_ENTRY",
    "STORE_ADDRESS",
    "STORE_POSITION",
    "STREAMED",
    "STREAMED_POSITION",
    "Y_BITS",
    "Destination",
    "Field",
    "Opcode",
    "Scaled",
    "Statistic",
    "Status",
    "descriptor_words",
    "entry_bits",
    "pack",
    "plane_cycles",
    "unpack",
    "width_of",
]

ADDRESS_BITS = 20

BANKS = 2
"""Banks of the activation memory: even and odd addresses. So many planes of a word are read or
written in a cycle; therefore the steps between planes are odd."""

CHECKSUM_BITS = 16
CHECKSUM_SEED = 0xACE1
DESCRIPTOR_WORDS = 5
"""Words of a descriptor; arrays with attention have ``ATTENTION_WORDS``."""

ATTENTION_WORDS = 7

DESCRIPTOR_SLOT_BITS = 2
ENCODER_SLOT_BITS = 1
DESCRIPTOR_SLOTS = 1 << DESCRIPTOR_SLOT_BITS
ENCODER_SLOTS = 1 << ENCODER_SLOT_BITS

LAG_FREE = 31
"""A ``lag`` that never waits."""


class Opcode(IntEnum):
    """What an instruction does. 0 is not an instruction, so erased memory is refused."""

    LOAD = 1
    """Write ``count`` payload words to consecutive addresses of a destination."""
    TILE = 2
    """Load a weight tile from the payload, then stream one block of pixels through the array."""
    POOL = 3
    """Stream one block of pixels through the max-pool unit; or, if ``masked``, which is then called
    a STORE and only exists in arrays that spill, single words to the program's memory."""
    END = 4
    """Wait until everything has retired and every result was taken; end with status OK."""
    MULTIPLY = 5
    """A TILE whose partial sums are multiplied by the levels of the residual before they are
    accumulated; only in arrays with products."""
    MATMUL = 6
    """A TILE whose weights are read from the activation memory; only in arrays with attention."""
    MEASURE = 7
    """Stream one block of tokens through the statistics unit, which leaves a factor for each; only
    in arrays with attention."""


class Statistic(IntEnum):
    """What statistics leave of a token: an offset, and the mantissa and shift of a factor."""

    LARGEST = 0
    """The largest level as offset, factor 1."""
    TOTAL = 1
    """No offset, the reciprocal of the sum of levels."""
    SQUARES = 2
    """No offset, the reciprocal root of ``n * S2 + epsilon``."""
    DEVIATION = 3
    """The sum of levels S1 as offset, the reciprocal root of ``n * S2 - S1**2 + epsilon``."""


class Scaled(IntEnum):
    """What goes through the token stage, with its token's factor, to the requantization."""

    NONE = 0
    """Nothing: sums are requantized as they are."""
    SUM = 1
    """The accumulator's sum."""
    TERM = 2
    """The residual's term, which takes the sum's place and is not added."""
    SCORE = 3
    """The same, and a wide residual of -32768 is minus infinity."""


class Destination(IntEnum):
    """Address spaces of LOAD. Each payload word writes one entry, in its low bits."""

    ACTIVATION = 0
    """Activation memory; entry: a word of codes."""
    WEIGHT_TABLE = 1
    """Weight decoders; address ``slot << code_bits | code``; entry: operand of the cells (decode:
    the level)."""
    ACTIVATION_TABLE = 2
    """Activation decoders; the same."""
    RESIDUAL_TABLE = 3
    """Residual decoders of the lanes; same address; entry: level."""
    SCALE = 4
    """Lane parameters; address ``slot << clog2(cols) | lane``; entry: ``SCALE_ENTRY``."""
    SHIFT = 5
    """Lane parameters, same address; entry: ``SHIFT_ENTRY``."""
    THRESHOLD = 6
    """Encoder search trees; address ``slot << (tensor_bits + 1) | node`` (root 1, children 2n and
    2n + 1)."""
    MAP = 7
    """Encoder maps; address ``slot << (tensor_bits + 1) | index``; entry: joined digits of the
    code."""
    DESCRIPTOR = 8
    """Layer descriptors; address ``slot << 3 | word``; entry: 64 bits of the descriptor."""
    PRODUCT = 9
    """Product tables of pair cells; address ``weight magnitude << activation bits | activation
    magnitude``; entry: product of the levels that the magnitudes stand for."""
    FENCE = 10
    """Nothing: the words are passed over, once all that was stored before is in memory; only in
    arrays that spill."""


class Status(IntEnum):
    """How a run ended."""

    RUNNING = 0
    OK = 1
    BAD_INSTRUCTION = 2
    TIMEOUT = 3


@dataclass(frozen=True)
class Field:
    """One field of a layout: name, width in bits, signedness, and what it means."""

    name: str
    width: int
    doc: str
    signed: bool = False


INSTRUCTION: tuple[Field, ...] = (
    Field("opcode", 3, "what to do"),
    Field("lag", 5, "wait until at most this many earlier tiles are unfinished; 31: do not wait"),
    Field("destination", 5, "LOAD: address space"),
    Field("mark", 1, "first tile of a layer: raises the `mark` output with its first word"),
    Field("first", 1, "the first word of a pixel starts its accumulator from 0"),
    Field("last", 1, "the last word of a pixel goes on to the post-processor"),
    Field("chase", 1, "wait for each word until LOAD has written its address"),
    Field(
        "masked",
        1,
        "each weight row is preceded by a payload word with one bit per column: 0 makes a weight "
        "0; POOL: it is a STORE",
    ),
    Field("weight_slot", TABLE_SLOT_BITS, "decode table of the weights"),
    Field("activation_slot", TABLE_SLOT_BITS, "decode table of the activations"),
    Field("descriptor", DESCRIPTOR_SLOT_BITS, "descriptor slot of the layer"),
    Field("rows", 7, "weight rows in the payload; the remaining rows are 0"),
    Field("slice", 4, "which `rows` codes of a word enter the array"),
    Field("out_slice", 4, "which `cols` codes of an output or residual word belong to the tile"),
    Field("param_slot", PARAM_SLOT_BITS, "lane parameters of the column tile"),
    Field("count", 16, "pixels of the block; LOAD: payload words"),
    Field("address", ADDRESS_BITS, "address of the first word; LOAD: first address"),
    Field(
        "row_address", ADDRESS_BITS, "address of the first word at output column 0 of the first row"
    ),
    Field("column", 13, "output column of the first pixel"),
    Field("x", 14, "input column of the first word", signed=True),
    Field("row_x", 14, "input column of a row's first word", signed=True),
    Field("y", 14, "input row of the first word", signed=True),
    Field("out_address", ADDRESS_BITS, "address of the first output word"),
    Field("residual_address", ADDRESS_BITS, "address of the first residual word"),
    Field("shift", 4, "left shift of the tile's partial sums"),
    Field("gather", 1, "statistics of the results are gathered, pixel by pixel"),
    Field("gather_first", 1, "they are the first ones of their pixels"),
    Field("gather_last", 1, "they are the last ones: each pixel's factor follows"),
    Field("weight_address", ADDRESS_BITS, "MATMUL: address of the first word of weights"),
    Field("weight_lag", 5, "MATMUL: `lag` of the weights"),
    Field("weight_slice", 4, "MATMUL: which codes of a word are weights"),
    Field("transposed", 1, "MATMUL: a word of weights is a column, not a row"),
)
"""Fields of an instruction, least significant first; the checksum fills the top 16 bits."""

RUN: tuple[Field, ...] = (
    Field(
        "more",
        6,
        "tiles that follow in the run: their weights are all that the payload has besides",
    ),
    Field("run_step", ADDRESS_BITS, "address step from tile to tile"),
    Field("run_x", 4, "step of the input column from tile to tile, with chains of the input row"),
    Field("run_slices", 1, "`slice` grows from tile to tile; steps are taken where it is 0 again"),
)
"""Fields of a TILE or MULTIPLY in the place of ``weight_address`` and what follows, which MATMUL
alone has."""

STREAMED: tuple[Field, ...] = (
    Field("joined", 1, "a word is two planes, read in one cycle: its digits side by side"),
    Field("weights_joined", 1, "a weight row is two payload words, the lower digits first"),
    Field("kept", 1, "the weights are those of the tile before: no payload"),
    Field("warm_up", 2, "words before a row's first pixel: the steps of a chain; 0: no chains"),
)
"""Fields of what streams through the array, in the place of ``destination``, which LOAD alone has;
chains are of TILE and MULTIPLY alone. Levels of joined digits are those digits side by side plus
entry 0 of the decode table."""

STORE_ADDRESS: tuple[Field, ...] = (
    Field("store_address", 32, "word of the program where the first word is stored"),
)
"""The field of a STORE in the place of ``out_address`` and what follows."""

DESCRIPTOR: tuple[Field, ...] = (
    Field("step_x", ADDRESS_BITS, "address step to the next output column"),
    Field("step_y", ADDRESS_BITS, "address step to the next output row"),
    Field("step_kx", ADDRESS_BITS, "address step to the next kernel column (inside a tile)"),
    Field(
        "step_ky",
        ADDRESS_BITS,
        "address step to the next kernel row (inside a tile), of a batch to the next image",
    ),
    Field(
        "step_plane",
        ADDRESS_BITS,
        "address step to the next plane (POOL, most significant first; MEASURE, joined: of a pair)",
    ),
    Field("width", 13, "input width; words outside are structural zeros"),
    Field("height", 13, "input height"),
    Field("stride_x", 6, "horizontal stride in input columns"),
    Field("stride_y", 6, "vertical stride in input rows"),
    Field("dilation_x", 6, "horizontal distance of taps inside a tile"),
    Field("dilation_y", 6, "vertical distance of taps inside a tile"),
    Field("out_width", 13, "output columns per row"),
    Field("kernel_w", 10, "kernel columns walked inside a tile (1 for convolutions)"),
    Field(
        "kernel_h",
        10,
        "kernel rows walked inside a tile (1 for convolutions); of a batch output rows of an image",
    ),
    Field("planes", 3, "planes walked inside a tile (POOL); 0: it walks images of a batch"),
    Field(
        "pace",
        3,
        "cycles that a pixel's last word, and any word of a MULTIPLY, holds the stream: half its "
        "output or residual planes, whichever are more, rounded up",
    ),
    Field("out_step", ADDRESS_BITS, "address step to the next output pixel of a row"),
    Field(
        "out_plane_step",
        ADDRESS_BITS,
        "address step to the next output plane, least significant first",
    ),
    Field("out_planes", 3, "planes of the output"),
    Field("residual_step", ADDRESS_BITS, "address step to the next residual pixel of a row"),
    Field("residual_plane_step", ADDRESS_BITS, "address step to the next residual plane"),
    Field("residual_planes", 3, "planes of the residual; 0: none"),
    Field("encoder_slot", ENCODER_SLOT_BITS, "search tree and map of the layer"),
    Field("encoder_depth", 4, "comparisons of the search; 0: emit y to the host instead of a code"),
    Field("out_row_step", ADDRESS_BITS, "address step from a row's last output pixel to the next"),
    Field("residual_row_step", ADDRESS_BITS, "the same of the residual"),
    Field("out_wide", 1, "store y + 32768 as digits; `encoder_depth` is 0"),
    Field("residual_wide", 1, "the residual is 16 bits, y + 32768 as digits"),
    Field("scaled", 2, "what goes through the token stage, with the latest factors"),
    Field("statistic", 2, "statistics: what they leave"),
    Field("linear", 1, "statistics: levels are joined digits plus the offset, else a table's"),
    Field("odd", 1, "MEASURE: the upper plane of a number's first two does not exist"),
    Field("level_offset", 16, "statistics: lowest level", signed=True),
    Field("edge", 7, "statistics: lanes that count of a token's last word, or last results"),
    Field("channels", 15, "statistics: n of a normalization"),
    Field("weight_step", ADDRESS_BITS, "MATMUL: address step to the next word of weights"),
    Field("epsilon", 58, "statistics: epsilon of a normalization, or added to a sum"),
    Field("table", TABLE_SLOT_BITS, "statistics: decode table of levels"),
)
"""Fields of a layer descriptor, least significant first, in words of 64 bits; those from `out_wide`
on exist in arrays with attention alone."""

SCALE_ENTRY: tuple[Field, ...] = (
    Field("mult", 16, "multiplier of the accumulator"),
    Field("bias", 48, "added to the product", signed=True),
)
"""Fields of an entry of destination SCALE, least significant first."""

SHIFT_ENTRY: tuple[Field, ...] = (
    Field("shift", 5, "right shift of the sum"),
    Field("residual_shift", 5, "right shift of the skip tensor's product"),
    Field("residual_slot", 4, "decode table of the skip tensor"),
    Field("linear", 1, "the skip tensor's levels are its joined digits plus the offset"),
    Field("negative", 1, "mult is negative (arrays with attention)"),
    Field("residual_mult", 16, "multiplier of the skip tensor's levels; 0: none"),
    Field("residual_offset", 9, "lowest level of the skip tensor", signed=True),
)
"""Fields of an entry of destination SHIFT, least significant first."""

Y_BITS = 16
"""Bits of a requantized sum, and of a threshold that it is compared with."""


def entry_bits(destination: Destination, config: ArrayConfig) -> int:
    """Return the bits of an address of LOAD below the slot: an address is ``slot << entry_bits |
    entry``. Memories without slots have none."""
    match destination:
        case Destination.WEIGHT_TABLE | Destination.ACTIVATION_TABLE | Destination.RESIDUAL_TABLE:
            return config.code_bits
        case Destination.SCALE | Destination.SHIFT:
            return clog2(config.cols)
        case Destination.THRESHOLD | Destination.MAP:
            return config.encoder_stages
        case Destination.DESCRIPTOR:
            return clog2(descriptor_words(config))
        case Destination.ACTIVATION | Destination.PRODUCT | Destination.FENCE:
            return 0


def descriptor_words(config: ArrayConfig) -> int:
    """Return the words of a descriptor."""
    return ATTENTION_WORDS if config.attention else DESCRIPTOR_WORDS


def plane_cycles(planes: int) -> int:
    """Return the cycles that reading or writing the planes of a word takes, at least 1."""
    return max(1, -(-planes // BANKS))


def width_of(layout: tuple[Field, ...]) -> int:
    """Return the bits of a layout."""
    return sum(item.width for item in layout)


RUN_POSITION = width_of(INSTRUCTION[: [item.name for item in INSTRUCTION].index("weight_address")])
"""The bit of an instruction at which ``RUN`` begins."""

STORE_POSITION = width_of(INSTRUCTION[: [item.name for item in INSTRUCTION].index("out_address")])
"""The bit of an instruction at which ``STORE_ADDRESS`` begins."""

STREAMED_POSITION = width_of(
    INSTRUCTION[: [item.name for item in INSTRUCTION].index("destination")]
)
"""The bit of an instruction at which ``STREAMED`` begins."""


def pack(layout: tuple[Field, ...], values: Mapping[str, int]) -> int:
    """Return the integer of a layout; missing fields are 0; raise ``InputError`` for a value that
    does not fit.

    Address steps and addresses wrap: negative values of unsigned ``ADDRESS_BITS`` fields are taken
    modulo their width.
    """
    unknown = set(values) - {item.name for item in layout}
    if unknown:
        raise InputError(f"layout has no field {sorted(unknown)}")
    word, position = 0, 0
    for item in layout:
        value = int(values.get(item.name, 0))
        wraps = item.width == ADDRESS_BITS
        low = -(1 << (item.width - 1)) if item.signed or wraps else 0
        high = (1 << (item.width - 1)) - 1 if item.signed else (1 << item.width) - 1
        if not low <= value <= high:
            raise InputError(f"field {item.name} must be {low} to {high}, not {value}")
        word |= (value & ((1 << item.width) - 1)) << position
        position += item.width
    return word


def unpack(layout: tuple[Field, ...], word: int) -> dict[str, int]:
    """Return the fields of a packed layout."""
    values = {}
    for item in layout:
        value = word & ((1 << item.width) - 1)
        if item.signed and value >> (item.width - 1):
            value -= 1 << item.width
        values[item.name] = value
        word >>= item.width
    return values
