"""What a program means: the hardware's instruction set executed one instruction at a time, without
cycles."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nupes.arch.chains import band, direct
from nupes.arch.config import INSTRUCTION_BITS, ArrayConfig, clog2
from nupes.arch.encoding import checksum, is_store
from nupes.arch.isa import (
    ADDRESS_BITS,
    CHECKSUM_BITS,
    DESCRIPTOR,
    INSTRUCTION,
    LAG_FREE,
    STREAMED,
    STREAMED_POSITION,
    Destination,
    Opcode,
    Scaled,
    Statistic,
    Status,
    descriptor_words,
    unpack,
)
from nupes.model.arithmetic import requantize, residual_term
from tests.model.reference.token_stage import root, scaled, share, statistics
from tests.rtl.outside import Outside
from tests.rtl.testbench import signed
from tests.rtl.tiles import Word, sensible, tiles_of, walk, warm_up_of

__all__ = ["Machine"]


@dataclass
class Machine:
    """The state that a program can see."""

    config: ArrayConfig
    memory: dict[tuple[Destination, int], int] = field(default_factory=dict)
    sums: dict[tuple[int, int], int] = field(default_factory=dict)
    factors: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    gathered: dict[int, list[int]] = field(default_factory=dict)
    steps: list[list[int]] = field(default_factory=list)
    """Levels of the latest steps of chains."""
    weights: dict[int, list[int]] = field(default_factory=dict)
    """The operands of each row; those that a tile does not carry stay, which chains may see."""
    results: list[list[int]] = field(default_factory=list)
    status: Status = Status.RUNNING
    late: bool = False
    """Whether tiles wait as long as the LOADs behind them let them."""
    pointer: int = 0
    waiting: list[tuple[dict[str, int], list[int]]] = field(default_factory=list)
    outside: Outside = field(default_factory=Outside)

    def run(self, words: Sequence[int]) -> None:
        """Execute a program to its end."""
        config, self.outside = self.config, Outside(words, self.config.fetch_depth)
        stream = self.outside.fetched()
        while self.status == Status.RUNNING:
            raw = 0
            for index in range(config.instruction_words):
                raw |= next(stream) << (index * config.port_bits)
            raw &= (1 << INSTRUCTION_BITS) - 1
            body_bits = INSTRUCTION_BITS - CHECKSUM_BITS
            body = raw & ((1 << body_bits) - 1)
            tile = unpack(INSTRUCTION, body)
            streamed = unpack(STREAMED, body >> STREAMED_POSITION)
            if raw >> body_bits != checksum(body) or not sensible(body, config):
                self.status = Status.BAD_INSTRUCTION
            elif tile["opcode"] == Opcode.LOAD:
                payload = (next(stream) for _ in range(tile["count"]))
                # The words of a fence are read behind it.
                self.load(tile, [] if tile["destination"] == Destination.FENCE else [*payload])
                deque(payload, 0)
            elif tile["opcode"] == Opcode.END:
                self.proceed(0)
                self.status = Status.TIMEOUT if self.waiting else Status.OK
            else:
                paid = tile["opcode"] in (Opcode.TILE, Opcode.MULTIPLY)
                joined = next(tiles_of(body, config))["weights_joined"]
                paid &= not streamed["kept"]
                rows = tile["rows"] * (1 + tile["masked"] + joined) if paid else 0
                for item in tiles_of(body, config):
                    self.waiting.append((item, [next(stream) for _ in range(rows)]))
                    self.proceed(LAG_FREE if self.late else 0)

    def put(self, tile: dict[str, int]) -> None:
        """Execute a STORE."""
        place = tile["out_address"] | tile["residual_address"] << ADDRESS_BITS
        for index, word in enumerate(walk(tile, self.descriptor(tile["descriptor"]))):
            self.outside.stored.append(
                (place + index, self.memory.get(self.place(word.address), 0))
            )

    def load(self, load: dict[str, int], words: list[int]) -> None:
        """Execute a LOAD behind the tiles that it waits for, and those that chase it."""
        self.proceed(load["lag"])
        self.status = Status.TIMEOUT if len(self.waiting) > load["lag"] else self.status
        memory = Destination(load["destination"])
        if memory == Destination.FENCE:
            self.outside.settle()
            return
        self.memory |= {(memory, load["address"] + i): word for i, word in enumerate(words)}
        if memory == Destination.ACTIVATION:
            self.pointer = load["address"] + len(words)
        self.proceed(LAG_FREE if self.late else 0)

    def proceed(self, most: int) -> None:
        """Execute tiles until at most so many wait, or one waits for words."""
        while len(self.waiting) > most:
            tile, rows = self.waiting[0]
            words = walk(tile, self.descriptor(tile["descriptor"])) if tile["chase"] else ()
            if any(word.inside and word.address >= self.pointer for word in words):
                return
            del self.waiting[0]
            if self.config.spills and is_store(tile["opcode"], tile["masked"]):
                self.put(tile)
            elif tile["opcode"] in (Opcode.POOL, Opcode.MEASURE):
                (self.pool if tile["opcode"] == Opcode.POOL else self.measure)(tile)
            else:
                self.tile(tile, iter(rows))

    def descriptor(self, slot: int) -> dict[str, int]:
        """Return a layer's descriptor."""
        count = descriptor_words(self.config)
        words = [self.memory[Destination.DESCRIPTOR, slot << 3 | i] for i in range(count)]
        return unpack(DESCRIPTOR, sum(word << (64 * i) for i, word in enumerate(words)))

    def place(self, address: int) -> tuple[Destination, int]:
        """Return where an activation word is: addresses wrap at a power of two."""
        return Destination.ACTIVATION, address & ((1 << self.config.act_address_bits) - 1)

    def codes(self, address: int, count: int, part: int = 0) -> list[int]:
        """Return ``count`` codes of an activation word, from slice ``part``."""
        bits = self.config.code_bits
        word = self.memory.get(self.place(address), 0)
        return [word >> (bits * (part * count + i)) & ((1 << bits) - 1) for i in range(count)]

    def store(self, address: int, codes: list[int], part: int = 0) -> None:
        """Write a slice of an activation word."""
        bits, place = self.config.code_bits, self.place(address)
        word = self.memory.get(place, 0)
        for lane, code in enumerate(codes):
            position = bits * (part * len(codes) + lane)
            word &= ~(((1 << bits) - 1) << position)
            word |= (code & ((1 << bits) - 1)) << position
        self.memory[place] = word

    def level(self, table: Destination, slot: int, code: int, bits: int) -> int:
        """Decode one code."""
        return signed(self.memory[table, slot << self.config.code_bits | code], bits)

    def entry(self, table: Destination, slot: int, code: int) -> int:
        """Return the operand of one code, as bits."""
        return self.memory[table, slot << self.config.code_bits | code]

    def operands(self, table: Destination, slot: int, codes: list[list[int]]) -> list[int]:
        """Return the operands of digits, as bits: the lower ones first, if they are joined."""
        if len(codes) == 1:
            return [self.entry(table, slot, code) for code in codes[0]]
        joined = (
            lower | upper << self.config.code_bits for lower, upper in zip(*codes, strict=True)
        )
        return [self.entry(table, slot, 0) + digits for digits in joined]

    def product(self, weight: int, level: int) -> int:
        """Return the product of two operands."""
        kind = self.config.cell
        tops = kind.weight_bits - 1, kind.activation_bits - 1
        if kind.mac == "decode":
            return signed(weight, tops[0] + 1) * signed(level, tops[1] + 1)
        left, right = weight & (1 << tops[0]) - 1, level & (1 << tops[1]) - 1
        product = left * right
        if kind.mac == "square" and not level >> (tops[1] + 1) & 1:
            product *= product
        elif kind.mac == "pair":
            product = self.memory.get((Destination.PRODUCT, left << tops[1] | right), 0)
        elif kind.mac == "product":
            product = kind.weight_magnitudes[left] * kind.activation_magnitudes[right]
        return -product if (weight >> tops[0] ^ level >> tops[1]) & 1 else product

    def joined(self, address: int, step: int, planes: int, count: int, part: int) -> list[int]:
        """Return joined digits of ``count`` codes."""
        digits = [self.codes(address + i * step, count, part) for i in range(planes)]
        bits = self.config.code_bits
        return [sum(digits[i][lane] << (bits * i) for i in range(planes)) for lane in range(count)]

    def tile(self, tile: dict[str, int], stream: Iterator[int]) -> None:
        """Execute a TILE, MULTIPLY or MATMUL."""
        config, layer = self.config, self.descriptor(tile["descriptor"])
        matrix = self.matrix(tile, layer) if tile["opcode"] == Opcode.MATMUL else []
        place, slot = Destination.WEIGHT_TABLE, tile["weight_slot"]
        for index in range(0 if tile["kept"] else tile["rows"]):
            mask = next(stream) if tile["masked"] else -1
            if matrix:
                codes = [matrix[index]]
            else:
                codes = [
                    [row >> (config.code_bits * c) & (2**config.code_bits - 1)
                     for c in range(config.cols)]
                    for row in (next(stream) for _ in range(1 + tile["weights_joined"]))
                ]  # fmt: skip
            operands = self.operands(place, slot, codes)
            self.weights[index] = [item if mask >> c & 1 else 0 for c, item in enumerate(operands)]
        none = [0] * config.cols
        weights = [self.weights.get(index, none) for index in range(config.rows)]
        column = list(zip(*weights, strict=True))
        for word in walk(tile, layer):
            part = tile["slice"] if config.rows < config.cols else 0
            codes = [self.codes(word.address, config.rows, part)]
            if tile["joined"]:
                second = word.address + layer["step_plane"]
                codes.insert(0, self.codes(second, config.rows, part))
            place, slot = Destination.ACTIVATION_TABLE, tile["activation_slot"]
            levels = self.operands(place, slot, codes)[: tile["rows"]] if word.inside else []
            levels += [0] * (config.rows - len(levels))
            multiplies = tile["opcode"] == Opcode.MULTIPLY
            others = self.residual_levels(tile, layer, word) if multiplies else []
            if config.chains and warm_up_of(tile):
                self.steps = [*self.steps[-2:], levels]
            if word.early:
                continue
            for col in range(config.cols):
                taken = self.taken(levels, col) if warm_up_of(tile) else levels
                total = sum(self.product(*pair) for pair in zip(column[col], taken, strict=True))
                if multiplies:
                    total = signed(total, config.factor_bits) * others[col]
                old = 0 if word.first and tile["first"] else self.sums[word.pixel, col]
                total = old + (total << tile["shift"])
                self.sums[word.pixel, col] = signed(total, config.acc_bits)
            if word.last and tile["last"]:
                self.finish(tile, layer, word)

    def taken(self, levels: list[int], col: int) -> list[int]:
        """Return what each row of a column multiplies: levels of this step of a chain or of earlier
        ones."""
        config, taken = self.config, list(levels)
        for lane in range(col, config.lanes if config.chains else 0, config.cols):
            row, _ = direct(lane, config)
            for age, other in enumerate(band(lane, config)):
                taken[other] = self.steps[-1 - age][row] if age < len(self.steps) else 0
        return taken

    def finish(self, tile: dict[str, int], layer: dict[str, int], word: Word) -> None:
        """Requantize and encode a pixel."""
        config = self.config
        first = tile["param_slot"] << clog2(config.cols)
        values = [
            self.lane(first | col, self.sums[word.pixel, col], level, layer, word.pixel)
            for col, level in enumerate(self.residual_levels(tile, layer, word))
        ]
        part = tile["out_slice"] if config.cols < config.rows else 0
        planes = config.wide_planes if layer["out_wide"] else layer["out_planes"]
        if layer["out_wide"]:
            codes = [y + 32768 for y in values]
        elif layer["encoder_depth"] == 0:
            self.results.append(values)
            return
        else:
            slot, depth = layer["encoder_slot"], layer["encoder_depth"]
            codes = [self.encode(y, slot, depth) for y in values]
        if tile["gather"]:
            self.gather(tile, layer, word.pixel, codes)
        for plane in range(planes):
            digits = [code >> (config.code_bits * plane) for code in codes]
            self.store(word.out_address + plane * layer["out_plane_step"], digits, part)

    def residual_levels(self, tile: dict[str, int], layer: dict[str, int], word: Word) -> list[int]:
        """Return the level of the residual in every lane."""
        config, bits, levels = self.config, self.config.activation_level_bits, []
        part = tile["out_slice"] if config.cols < config.rows else 0
        step, planes = layer["residual_plane_step"], layer["residual_planes"]
        if layer["residual_wide"]:
            count, address = config.wide_planes, word.residual_address
            joined = self.joined(address, step, count, config.cols, part)
            return [(digits & 0xFFFF) - 32768 for digits in joined]
        for col, digits in enumerate(
            self.joined(word.residual_address, step, planes, config.cols, part)
        ):
            shift = self.memory[Destination.SHIFT, tile["param_slot"] << clog2(config.cols) | col]
            if shift >> 14 & 1:
                levels.append(signed(digits + signed(shift >> 32, 9), bits))
            else:
                code, slot = digits & (2**config.code_bits - 1), shift >> 10 & 15
                levels.append(self.level(Destination.RESIDUAL_TABLE, slot, code, bits))
        return levels

    def lane(self, place: int, total: int, level: int, layer: dict[str, int], pixel: int) -> int:
        """Requantize one sum."""
        scale = self.memory[Destination.SCALE, place]
        shift = self.memory[Destination.SHIFT, place]
        mult = shift >> 16 & 0xFFFF
        term = int(residual_term(np.array(level), mult, shift >> 5 & 31)) if mult else 0
        if layer["scaled"] >= Scaled.TERM:
            total, term = term, 0
        if layer["scaled"]:
            offset, mantissa, down = self.factors[pixel]
            score = layer["scaled"] == Scaled.SCORE and layer["residual_wide"]
            masked = score and total == -32768
            total = scaled(-65536 if masked else total - offset, mantissa, down)
        mult = -(scale & 0xFFFF) if shift >> 15 & 1 else scale & 0xFFFF
        parts = (mult, signed(scale >> 16, 48), shift & 31)
        mult, bias, down = (np.array(part) for part in parts)
        return int(requantize(np.array(total), mult, bias, down, term))

    def encode(self, y: int, slot: int, depth: int) -> int:
        """Search the encoder's tree."""
        base, node = slot << self.config.encoder_stages, 1
        for _ in range(depth):
            node = node << 1 | (y >= signed(self.memory[Destination.THRESHOLD, base | node], 16))
        return self.memory[Destination.MAP, base | (node - (1 << depth))]

    def matrix(self, tile: dict[str, int], layer: dict[str, int]) -> list[list[int]]:
        """Return the codes of the weights of a MATMUL, row by row."""
        rows, cols, part = self.config.rows, self.config.cols, tile["weight_slice"]
        turned = tile["transposed"]
        count, size = (cols, rows) if turned else (tile["rows"], cols)
        addresses = [tile["weight_address"] + i * layer["weight_step"] for i in range(count)]
        words = [self.codes(address, size, part if size < self.config.lanes else 0)
                 for address in addresses]  # fmt: skip
        return [list(row) for row in zip(*words, strict=True)] if turned else words

    def gather(
        self, tile: dict[str, int], layer: dict[str, int], pixel: int, codes: list[int]
    ) -> None:
        """Take the joined digits of a pixel's results for its statistics."""
        if tile["gather_first"]:
            self.gathered[pixel] = []
        count = layer["edge"] if tile["gather_last"] else self.config.cols
        self.gathered[pixel] += (self.counted(layer, code) for code in codes[:count])
        if tile["gather_last"]:
            self.factors[pixel] = self.factor(layer, self.gathered[pixel])

    def counted(self, layer: dict[str, int], joined: int) -> int:
        """Return the level that statistics take for joined digits."""
        if layer["linear"]:
            return joined + layer["level_offset"]
        bits, digits = self.config.activation_level_bits, joined % 2**self.config.code_bits
        return self.level(Destination.ACTIVATION_TABLE, layer["table"], digits, bits)

    def measure(self, tile: dict[str, int]) -> None:
        """Execute a MEASURE."""
        config, layer = self.config, self.descriptor(tile["descriptor"])
        levels: list[int] = []
        joined = [0] * config.lanes
        words = list(walk(tile, layer))
        each = max(1, layer["kernel_w"])
        lines = max(1, layer["kernel_h"])
        for number, word in enumerate(words):
            top = number % each == 0
            upper = self.codes(word.address, config.lanes)
            codes = self.codes(word.address + layer["step_plane"], config.lanes)
            if top and layer["odd"]:
                upper = [0] * config.lanes
            for digits in (upper, codes):
                joined = [0] * config.lanes if top and digits is upper else joined
                pairs = zip(joined, digits, strict=True)
                joined = [old << config.code_bits | code for old, code in pairs]
            if number % each < each - 1:
                continue
            whole = number // each % lines < lines - 1
            count = config.lanes if whole else layer["edge"]
            levels += (self.counted(layer, value) for value in joined[:count])
            if word.last:
                self.factors[word.pixel] = self.factor(layer, levels)
                levels = []

    def factor(self, layer: dict[str, int], levels: list[int]) -> tuple[int, int, int]:
        """Return the offset, mantissa and shift of a token of some levels."""
        if layer["statistic"] == Statistic.LARGEST:
            return max(levels), 1 << 15, 15
        if layer["statistic"] == Statistic.TOTAL:
            return 0, *share(sum(levels) + layer["epsilon"])
        centered, n = layer["statistic"] == Statistic.DEVIATION, layer["channels"]
        first, d = statistics(levels, centered, layer["epsilon"])
        assert n == len(levels)
        return first, *root(d)

    def pool(self, tile: dict[str, int]) -> None:
        """Execute a POOL."""
        config, layer = self.config, self.descriptor(tile["descriptor"])
        best = [0] * config.lanes
        tap = [0] * config.lanes
        for word in walk(tile, layer):
            best = [0] * config.lanes if word.first else best
            codes = self.codes(word.address, config.lanes) if word.inside else [0] * config.lanes
            tap = [
                (0 if word.top else old) << config.code_bits | code
                for old, code in zip(tap, codes, strict=True)
            ]
            best = [max(pair) for pair in zip(best, tap, strict=True)]
            if word.last:
                for plane in range(layer["out_planes"]):
                    digits = [code >> (config.code_bits * plane) for code in best]
                    self.store(word.out_address + plane * layer["out_plane_step"], digits)
