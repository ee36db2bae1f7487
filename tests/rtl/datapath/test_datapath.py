"""The whole datapath, against the integer model: every result, in its cycle."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import ENCODER_SLOTS, Destination
from nupes.model.arithmetic import encode, requantize, residual_term
from nupes.rtl.datapath.datapath import Datapath
from nupes.rtl.interface import RESULT_BITS, FeedControl, ScaleEntry, ShiftEntry, WordControl
from tests.rtl.datapath.test_array import extremes, multiply, table_loads
from tests.rtl.datapath.test_cell import tables
from tests.rtl.datapath.test_encoder import tree_loads
from tests.rtl.strategies import configs
from tests.rtl.testbench import load, simulate

IDLE = {
    "load.valid": 0,
    "weights.valid": 0,
    "control": dict.fromkeys(WordControl(ArrayConfig()).members, 0),
    "feed": dict.fromkeys(FeedControl(ArrayConfig()).members, 0),
}


@dataclass
class Resident:
    """What LOADs bring in: random tables and parameters, and the cycles that load them."""

    config: ArrayConfig
    generator: np.random.Generator
    depths: tuple[int, ...]
    cycles: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        config, generator = self.config, self.generator
        level_bits = config.activation_level_bits
        self.products = tables(config, int(generator.integers(2**32)))
        self.cycles += table_loads(config, self.products)
        self.weights = self.table(Destination.WEIGHT_TABLE, config.cell.weight_bits)
        self.activations = self.table(Destination.ACTIVATION_TABLE, config.level_entry_bits)
        self.residuals = self.table(Destination.RESIDUAL_TABLE, level_bits)
        shape = (config.param_slots, config.cols)
        self.shift = generator.integers(1, 24, shape)
        self.mult = generator.integers(0, 1 << 16, shape)
        self.bias = extremes(generator, 15, shape) << self.shift
        self.residual_shift = generator.integers(1, 32, shape)
        self.residual_mult = generator.integers(0, 1 << 16, shape) * generator.integers(0, 2, shape)
        self.residual_slot = generator.integers(0, config.table_slots, shape)
        self.linear = generator.integers(0, 2, shape)
        self.offset = generator.integers(-(1 << (level_bits - 1)), 1, shape)
        highest = (1 << (level_bits - 1)) - 1
        radix = 1 << config.code_bits
        self.joined_limit = np.where(self.linear, highest - self.offset + 1, radix)
        scales, shifts = {}, {}
        for slot, lane in np.ndindex(shape):
            address, at = slot << clog2(config.cols) | lane, (slot, lane)
            scale = {"mult": self.mult[at], "bias": self.bias[at]}
            shift = {
                "shift": self.shift[at],
                "residual_shift": self.residual_shift[at],
                "residual_slot": self.residual_slot[at],
                "linear": self.linear[at],
                "residual_mult": self.residual_mult[at],
                "residual_offset": self.offset[at],
            }
            scales[address] = ScaleEntry().const({k: int(v) for k, v in scale.items()}).as_bits()
            shifts[address] = ShiftEntry().const({k: int(v) for k, v in shift.items()}).as_bits()
        self.cycles += load(Destination.SCALE, scales) + load(Destination.SHIFT, shifts)
        self.trees = []
        for slot, depth in enumerate(self.depths):
            thresholds = np.sort(extremes(generator, 16, ((1 << depth) - 1,)))
            codes = generator.integers(0, 1 << config.joined_bits, 1 << depth)
            self.trees.append((thresholds, codes))
            self.cycles += tree_loads(config, slot, thresholds.tolist(), codes.tolist())

    def table(self, destination: Destination, bits: int) -> np.ndarray:
        """Return and load decode tables of every slot."""
        shape = (self.config.table_slots, 1 << self.config.code_bits)
        table = extremes(self.generator, bits, shape)
        self.cycles += load(destination, dict(enumerate((table.reshape(-1) & 0x3FF).tolist())))
        return table

    def residual(self, joined: np.ndarray, slot: int) -> np.ndarray:
        """Return the levels that joined digits stand for."""
        looked_up = self.residuals[self.residual_slot[slot], joined % self.residuals.shape[1]]
        return np.where(self.linear[slot], joined + self.offset[slot], looked_up)

    def result(self, acc: np.ndarray, level: np.ndarray, slot: int, tree: int | None) -> list[int]:
        """Return what a word's accumulators become: joined digits, or the bits of ``y``."""
        term = residual_term(level, self.residual_mult[slot], self.residual_shift[slot])
        y = requantize(acc, self.mult[slot], self.bias[slot], self.shift[slot], term)
        if tree is None:
            return (y.astype(int) & ((1 << RESULT_BITS) - 1)).tolist()
        return encode(y, *self.trees[tree]).tolist()


def factors(psums: np.ndarray, config: ArrayConfig) -> np.ndarray:
    """Return what of partial sums enters a multiplier."""
    return wrapped(psums, config.factor_bits)


def wrapped(values: np.ndarray, bits: int) -> np.ndarray:
    """Return the signed numbers of the low bits of some numbers."""
    half = 1 << (bits - 1)
    return (values + half) % (2 * half) - half


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_blocks_of_tiles(data: st.DataObject) -> None:
    """Passes accumulate into blocks of pixels; tiles, blocks and layers follow closely."""
    config = data.draw(configs(shapes=((2, 2), (4, 4), (2, 4), (6, 3))))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    depth = st.integers(1, min(4, config.encoder_stages))
    resident = Resident(config, generator, tuple(data.draw(depth) for _ in range(ENCODER_SLOTS)))
    rows, cols, radix = config.rows, config.cols, 1 << config.code_bits
    slices = config.lanes // rows

    cycles: dict[int, dict] = {}
    expected: dict[int, tuple] = {}
    free = first = -1
    now = 0
    for _ in range(data.draw(st.integers(1, 3))):
        pixels = data.draw(st.integers(1, config.acc_depth))
        passes = data.draw(st.integers(1, 3))
        param_slot = data.draw(st.integers(0, config.param_slots - 1))
        tree = data.draw(st.none() | st.integers(0, ENCODER_SLOTS - 1))
        acc = np.zeros((pixels, cols), np.int64)
        for number in range(passes):
            # One weight row a cycle, once the tile before has issued its first word.
            carried = data.draw(st.integers(0, rows))
            weight_slot, slot = generator.integers(0, config.table_slots, 2).tolist()
            codes = generator.integers(0, radix, (rows, cols))
            mask = generator.integers(0, 2, (rows, cols)) | (generator.random() < 0.5)
            lower = generator.integers(0, radix, (rows, cols))
            paired = int(config.joins_weights and generator.integers(0, 2))
            free = max(free, first + 1)
            for row in range(carried):
                if paired:
                    cycles.setdefault(free, {}).update(
                        {"weights.lower": 1, "weights.codes": lower[row].tolist()}
                    )
                    free += 1
                cycles.setdefault(free, {}).update(
                    {
                        "weights.valid": 1,
                        "weights.row": row,
                        "weights.codes": codes[row].tolist(),
                        "weights.mask": int(mask[row] @ (1 << np.arange(cols))),
                        "weights.slot": weight_slot,
                        **({"weights.joined": paired} if config.joins_weights else {}),
                    }
                )
                free += 1
            weights = resident.weights[weight_slot, codes] * mask
            if paired:
                sums = resident.weights[weight_slot, 0] + (lower | codes << config.code_bits)
                weights = wrapped(sums, config.cell.weight_bits) * mask
            weights[carried:] = 0

            # The first word two cycles after the last row.
            now = max(now, free + 1)
            first = now
            part = data.draw(st.integers(0, slices - 1))
            words = generator.integers(0, radix, (pixels, config.lanes))
            pads = generator.random(pixels) < 0.2
            below = generator.integers(0, radix, (pixels, config.lanes))
            joins = int(config.joins and generator.integers(0, 2))
            upper_codes, lower_codes = (
                w.reshape(pixels, -1, rows)[:, part] for w in (words, below)
            )
            levels = resident.activations[slot, upper_codes]
            if joins:
                sums = resident.activations[slot, 0] + (
                    lower_codes | upper_codes << config.code_bits
                )
                levels = wrapped(sums, config.activation_level_bits)
            levels = levels * ~pads[:, None]
            shift = int(generator.integers(0, 6)) if config.shift_bits else 0
            multiplies = int(config.products and generator.integers(0, 2))
            joined = generator.integers(0, resident.joined_limit[param_slot], (pixels, cols))
            others = resident.residual(joined, param_slot)
            psums = multiply(config, levels, weights, resident.products)
            acc += (factors(psums, config) * others if multiplies else psums) << shift
            for pixel in range(pixels):
                last, end = number == passes - 1, pixel == pixels - 1
                tree_slot = tree or 0
                cycles.setdefault(now, {}).update(
                    {
                        "control": {
                            "valid": 1,
                            "first": int(number == 0),
                            "last": int(last),
                            "end": int(end),
                            "acc_address": pixel,
                            "shift": shift,
                            "multiply": multiplies,
                            "param_slot": param_slot,
                            "encoder_slot": tree_slot,
                            "encoder_depth": 0 if tree is None else resident.depths[tree_slot],
                        },
                        "feed": {
                            "swap": int(pixel == 0),
                            "pad": int(pads[pixel]),
                            "rows": carried,
                            "slot": slot,
                            "slice": part,
                            "joined": joins,
                        },
                    }
                )
                cycles.setdefault(now + 1, {})["word"] = words[pixel].tolist()
                if config.joins:
                    cycles[now + 1]["lower"] = below[pixel].tolist()
                arrival = now + config.issue_to_residual
                cycles.setdefault(arrival, {})["residual"] = joined[pixel].tolist()
                level = others[pixel]
                result = resident.result(acc[pixel], level, param_slot, tree) if last else None
                expected[now] = (int(last), int(end), int(tree is None), result)
                now += 1 if generator.random() < 0.9 else 3

    idle = IDLE | ({"weights.lower": 0} if config.joins_weights else {})
    timeline = [idle | cycles.get(n, {}) for n in range(now + 1)]
    timeline += [idle | cycles.get(n, {}) for n in range(now + 1, now + config.issue_to_write + 1)]
    start = len(resident.cycles)
    outputs = ("result_control", "results")
    seen = simulate(Datapath(config), [*resident.cycles, *timeline], outputs)
    for n in range(now):
        at = start + n + config.issue_to_write - 1
        control, results = seen["result_control"][at], seen["results"][at]
        if n not in expected:
            assert not control & 1
            continue
        last, end, host, line = expected[n]
        assert control == 1 | last << 1 | end << 2 | host << 3
        if last:
            lanes = [results >> (RESULT_BITS * c) & 0xFFFF for c in range(cols)]
            assert lanes == line
