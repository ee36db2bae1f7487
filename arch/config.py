"""The array configuration: every size a user may choose, and the widths and latencies that follow
from it.

No Amaranth here: the compiler shares this file with the hardware.
"""

from dataclasses import dataclass, fields
from functools import cached_property

from nupes.arch.cells import CELLS, CellKind
from nupes.arch.pipeline import Pipeline, clog2
from nupes.model.errors import InputError

__all__ = ["ArrayConfig"]

INSTRUCTION_BITS = 256

TABLE_SLOT_BITS = 4
"""Bits with which instructions and lane parameters name a decode table."""

PARAM_SLOT_BITS = 8
"""Bits with which instructions name the parameters of a column tile."""

MOST_TABLE_BITS = 10
"""A cell's products as a table: beyond 1,024 entries a multiplier is smaller."""


WIDE_BITS = 16
"""Bits of a number of a wide tensor."""


@dataclass(frozen=True)
class ArrayConfig(Pipeline):
    """A weight-stationary systolic array of ``rows`` x ``cols`` processing elements and its
    memories.

    ``rows`` carry input channels, ``cols`` output channels; one must divide the other. Depths are
    in words of their memory; the default activation memory holds ResNet-20 for CIFAR-10.
    """

    rows: int = 16
    """Input channels per pass, 2 to 64."""
    cols: int = 16
    """Output channels per pass, 2 to 64."""
    code_bits: int = 4
    """Bits of an operand's code, 2 to 8; wider tensors run as planes."""
    mac: str = "decode"
    """What the cells multiply: decode, uniform, square, pair or product (docs/hardware.md)."""
    weight_operand_bits: int = 0
    """Bits of a weight in the cells, sign included: ``code_bits`` (0) or one more; not for decode
    and product."""
    activation_operand_bits: int = 0
    """Bits of an activation in the cells, sign included: ``code_bits`` for signed codes, one more
    (0) for unsigned ones too; not for decode and product."""
    weight_magnitudes: tuple[int, ...] = ()
    """Magnitudes of the weight levels of product cells, besides 0, rising."""
    activation_magnitudes: tuple[int, ...] = ()
    """Magnitudes of the activation levels of product cells, besides 0, rising."""
    products: bool = False
    """Elementwise products of two stored tensors: a multiplier in every lane."""
    attention: bool = False
    """What attention needs: 16-bit tensors in memory, weights from memory, a factor for each token,
    negative multipliers; with mac="decode"."""
    spills: bool = False
    """Maps larger than the activation memory: what does not fit is stored in the program's memory,
    and loaded again where it is read."""
    weight_level_bits: int = 8
    """Bits of a decoded weight level (signed)."""
    activation_level_bits: int = 9
    """Bits of a decoded activation level (signed)."""
    acc_bits: int = 32
    """Bits of an accumulator (signed), 16 to 32."""
    acc_depth: int = 512
    """Output pixels that one pass may cover: words of the accumulator memory."""
    act_depth: int = 16384
    """Words of ``max(rows, cols)`` codes in the activation memory."""
    param_slots: int = 32
    """Column tiles whose requantization parameters are resident."""
    tensor_bits: int = 8
    """Widest code that the encoder can produce."""
    burst: int = 32
    """Words of one burst on the external memory port."""
    fetch_depth: int = 128
    """Words of the fetch buffer; a multiple of ``burst``."""
    watchdog: int = 65536
    """Cycles without any progress after which a run ends with status TIMEOUT."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type is int and (not isinstance(value, int) or isinstance(value, bool)):
                raise InputError(f"ArrayConfig.{item.name} must be an integer, not {value!r}")
            if item.type is bool and not isinstance(value, bool):
                raise InputError(f"ArrayConfig.{item.name} must be True or False, not {value!r}")
        self.check_cell()
        for name, low, high in (
            ("rows", 2, 64),
            ("cols", 2, 64),
            ("code_bits", 2, 8),
            ("weight_level_bits", 2, 8),
            ("activation_level_bits", 2, 9),
            ("acc_bits", 16, 32),
            ("acc_depth", 4, 4096),
            ("act_depth", 4, 1 << 20),
            ("param_slots", 2, 1 << PARAM_SLOT_BITS),
            ("tensor_bits", 1, 8),
            ("burst", 1, 128),
            ("fetch_depth", 2, 4096),
            ("watchdog", 256, 1 << 24),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"ArrayConfig.{name} must be {low} to {high}, not {value}")
        if self.rows % self.cols and self.cols % self.rows:
            raise InputError(
                f"ArrayConfig.rows and cols must divide one another, not {self.rows}x{self.cols}"
            )
        if max(self.rows, self.cols) > 16 * min(self.rows, self.cols):
            raise InputError(
                f"ArrayConfig.rows and cols must differ at most by 16, not {self.rows}x{self.cols}"
            )
        if self.fetch_depth % self.burst or self.fetch_depth < 2 * self.burst:
            raise InputError(
                f"ArrayConfig.fetch_depth must be a multiple of burst and hold two of them "
                f"({2 * self.burst}), not {self.fetch_depth}"
            )
        if self.attention and self.mac != "decode":
            raise InputError(
                f"ArrayConfig.mac must be decode with attention=True, not {self.mac!r}"
            )
        if self.attention and self.rows < self.residual_pairs:
            raise InputError(
                f"ArrayConfig.rows must be at least {self.residual_pairs} with attention=True and "
                f"code_bits={self.code_bits}, not {self.rows}: the planes of a 16-bit number are "
                "read meanwhile"
            )
        if self.tensor_bits < self.code_bits:
            raise InputError(
                f"ArrayConfig.tensor_bits must be at least code_bits ({self.code_bits}), "
                f"not {self.tensor_bits}"
            )

    def check_cell(self) -> None:
        """Refuse a cell that does not exist, or fields that it does not have."""
        if self.mac not in CELLS:
            raise InputError(f"ArrayConfig.mac must be one of {', '.join(CELLS)}, not {self.mac!r}")
        for side in ("weight", "activation"):
            bits, name = getattr(self, f"{side}_operand_bits"), f"{side}_operand_bits"
            codes = (self.code_bits, self.code_bits + 1)
            if bits and self.mac in ("decode", "product"):
                raise InputError(
                    f"ArrayConfig.{name} must be 0 with mac={self.mac!r}, not {bits}: its operands "
                    "have the bits of its levels"
                )
            if bits and bits not in codes:
                raise InputError(
                    f"ArrayConfig.{name} must be 0, {codes[0]} or {codes[1]}, not {bits}"
                )
            values, name = getattr(self, f"{side}_magnitudes"), f"{side}_magnitudes"
            top = (1 << (getattr(self, f"{side}_level_bits") - 1)) - 1
            if (self.mac == "product") != bool(values):
                raise InputError(
                    f"ArrayConfig.{name} must be {'given' if not values else 'empty'} with "
                    f"mac={self.mac!r}, not {values!r}"
                )
            if not isinstance(values, tuple) or not all(type(value) is int for value in values):
                raise InputError(f"ArrayConfig.{name} must be a tuple of integers, not {values!r}")
            if any(b <= a for a, b in zip((0, *values), values, strict=False)) or (
                values and values[-1] > top
            ):
                raise InputError(f"ArrayConfig.{name} must rise from 1 to {top}, not {values!r}")
        if self.products and self.mac == "product" and 1 not in self.weight_magnitudes:
            raise InputError(
                "ArrayConfig.weight_magnitudes must contain 1 with products=True, for identity "
                f"tiles of one pass, not {self.weight_magnitudes!r}"
            )
        if self.mac in ("square", "pair", "product") and self.table_bits > MOST_TABLE_BITS:
            raise InputError(
                f"ArrayConfig: the magnitudes of a {self.mac} cell's operands must have at most "
                f"{MOST_TABLE_BITS} bits together, not {self.table_bits}; reduce code_bits "
                f"({self.code_bits})"
            )

    def __str__(self) -> str:
        return f"{self.rows}x{self.cols}"

    @property
    def cell(self) -> CellKind:
        """The kind of the cells and their operands' bits."""
        if self.mac == "decode":
            return CellKind(self.mac, self.weight_level_bits, self.activation_level_bits)
        if self.mac == "product":
            weights, activations = (0, *self.weight_magnitudes), (0, *self.activation_magnitudes)
            bits = (1 + clog2(len(weights)), 1 + clog2(len(activations)))
            return CellKind(
                self.mac, *bits, weight_magnitudes=weights, activation_magnitudes=activations
            )
        weight_bits = self.weight_operand_bits or self.code_bits
        activation_bits = self.activation_operand_bits or self.code_bits + 1
        return CellKind(
            self.mac,
            min(weight_bits, self.weight_level_bits),
            min(activation_bits, self.activation_level_bits),
            weight_top=(1 << (self.weight_level_bits - 1)) - 1,
            activation_top=(1 << (self.activation_level_bits - 1)) - 1,
        )

    @property
    def chains(self) -> bool:
        """Whether columns have chains of taps (arch/chains.py): three rows for each lane of a word,
        and no row of a column for two lanes."""
        return self.rows >= 3 and (self.rows <= self.cols or self.cols > 4)

    @property
    def table_bits(self) -> int:
        """Bits of both operands' magnitudes: the address of a cell's table of products."""
        return self.cell.weight_bits + self.cell.activation_bits - 2

    @property
    def product_bits(self) -> int:
        """Bits of the magnitude of an entry in a pair cell's table."""
        return self.weight_level_bits + self.activation_level_bits - 2

    @property
    def linear_bit(self) -> int:
        """1 if activation operands carry a bit that is 0 for products to be squared."""
        return int(self.mac == "square")

    @property
    def level_entry_bits(self) -> int:
        """Bits of an activation decoder's entry: an operand, and a square cell's linear bit."""
        return self.cell.activation_bits + self.linear_bit

    @property
    def largest_product(self) -> int:
        """Largest magnitude of a cell's product."""
        cell = self.cell
        if self.mac == "decode":
            return 1 << (cell.weight_bits + cell.activation_bits - 2)
        if self.mac == "product":
            return cell.weight_magnitudes[-1] * cell.activation_magnitudes[-1]
        if self.mac == "pair":
            return cell.weight_top * cell.activation_top
        product = cell.weight_limit * cell.activation_limit
        return product**2 if self.mac == "square" else product

    @property
    def shift_bits(self) -> int:
        """Bits of the left shift of partial sums: where operands are digits of levels, or a tensor
        has several pairs of planes."""
        widest = max(self.activation_level_bits, self.weight_level_bits)
        one_pair = self.mac == "decode" and -(-widest // self.code_bits) < 4
        return 0 if one_pair or self.mac == "product" else 4

    @property
    def joins(self) -> bool:
        """Whether two planes of what streams are read in a cycle, and enter as one operand."""
        return self.mac == "decode" and self.planes > 1

    @property
    def reads_pairs(self) -> bool:
        """Whether the stream reads two words in a cycle."""
        return self.joins or self.attention

    @property
    def joins_weights(self) -> bool:
        """Whether two digits of a weight become one operand."""
        return self.mac == "decode" and self.weight_level_bits > self.code_bits

    @cached_property
    def lanes(self) -> int:
        """Codes in one word of the activation memory."""
        return max(self.rows, self.cols)

    @cached_property
    def word_bits(self) -> int:
        """Bits of one word of the activation memory."""
        return self.lanes * self.code_bits

    @cached_property
    def port_bits(self) -> int:
        """Bits of one word of the external memory port."""
        return max(64, self.word_bits)

    @cached_property
    def instruction_words(self) -> int:
        """Port words of one instruction."""
        return -(-INSTRUCTION_BITS // self.port_bits)

    @property
    def planes(self) -> int:
        """Most planes of any tensor: digits of a span of ``activation_level_bits`` bits."""
        return -(-self.activation_level_bits // self.code_bits)

    @property
    def joined_bits(self) -> int:
        """Bits of all the digits of one code side by side."""
        return self.planes * self.code_bits

    @property
    def wide_planes(self) -> int:
        """Planes of a 16-bit tensor."""
        return -(-WIDE_BITS // self.code_bits)

    @property
    def residual_planes(self) -> int:
        """Most planes of a tensor at the residual port."""
        return max(self.planes, self.wide_planes) if self.attention else self.planes

    @property
    def residual_pairs(self) -> int:
        """Cycles that reading that many planes takes, two at a time."""
        return -(-self.residual_planes // 2)

    @property
    def residual_bits(self) -> int:
        """Bits of all the digits of a number at the residual port side by side."""
        return self.residual_planes * self.code_bits

    @property
    def residual_level_bits(self) -> int:
        """Bits of a level at the residual port (signed)."""
        return WIDE_BITS if self.attention else self.activation_level_bits

    @property
    def table_slots(self) -> int:
        """Decode tables resident per operand: the planes of two layers, rounded up to a power of
        two; at least the passes of one layer."""
        return 1 << clog2(max(2 * self.planes, self.passes))

    @property
    def passes(self) -> int:
        """Most digits of a weight or activation level in the cells, at most the tables that can be
        named."""
        if self.mac in ("decode", "product"):
            return self.planes
        weights = -(-self.weight_level_bits // (self.cell.weight_bits - 1))
        narrow = -(-self.activation_level_bits // (self.cell.activation_bits - 1))
        digits = -(-self.code_bits // (self.cell.activation_bits - 1))
        return min(max(weights, narrow + digits * (self.planes - 1)), 1 << TABLE_SLOT_BITS)

    @property
    def psum_bits(self) -> int:
        """Bits of a partial sum that leaves a column: ``rows`` products cannot overflow it."""
        return 1 + (self.rows * self.largest_product).bit_length()

    @property
    def factor_bits(self) -> int:
        """Bits of a partial sum that is multiplied by a stored tensor's level: a level, or one of
        its digits in place, which may be one more than the largest level."""
        return self.activation_level_bits + 1

    @property
    def act_address_bits(self) -> int:
        """Bits of an activation memory address."""
        return clog2(self.act_depth)
