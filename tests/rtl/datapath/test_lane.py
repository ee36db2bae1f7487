"""One lane of the post-processor: what the blocks inside it do not show by themselves."""

import numpy as np
import pytest

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Destination
from nupes.model.arithmetic import requantize
from nupes.model.token_stage import scale_tokens
from nupes.rtl.datapath.lane import Lane
from nupes.rtl.interface import ScaleEntry, ShiftEntry, WordControl
from tests.rtl.testbench import load, signed, simulate


def words(config: ArrayConfig, slots: list[int], psum: int) -> list[dict]:
    """Return the cycles of one first-and-last word per parameter slot, results to the host."""
    zero = dict.fromkeys(WordControl(config).members, 0)
    valid = {"valid": 1, "first": 1, "last": 1, "end": 1}
    cycles = [{"control": zero | valid | {"param_slot": slot}, "psum": psum} for slot in slots]
    return [*cycles, {"control": zero}]


@pytest.mark.parametrize("cols", [2, 3, 5, 16])
def test_a_lane_takes_its_own_parameters(cols: int) -> None:
    config = ArrayConfig(rows=cols, cols=cols, param_slots=3, tensor_bits=4, acc_depth=4)
    generator = np.random.default_rng(cols)
    shape = (config.param_slots, cols)
    mult, shift = generator.integers(0, 65536, shape), generator.integers(1, 32, shape)
    address = [slot << clog2(cols) | lane for slot, lane in np.ndindex(shape)]
    scales = [ScaleEntry().const({"mult": int(m)}).as_bits() for m in mult.reshape(-1)]
    shifts = [ShiftEntry().const({"shift": int(s)}).as_bits() for s in shift.reshape(-1)]
    writes = load(Destination.SCALE, dict(zip(address, scales, strict=True)))
    writes += load(Destination.SHIFT, dict(zip(address, shifts, strict=True)))
    slots = [2, 0, 1, 1, 2]
    for lane in {0, 1, cols - 1}:
        cycles = [{"index": lane}, *writes, *words(config, slots, 12345)]
        latency = 1 + config.lane_latency
        seen = simulate(Lane(config), cycles, ("result",), idle=latency)["result"]
        start = 1 + len(writes) + latency
        y = [signed(value, 16) for value in seen[start : start + len(slots)]]
        total = np.full(len(slots), 12345)
        assert (
            y == requantize(total, mult[slots, lane], np.zeros(1, int), shift[slots, lane]).tolist()
        )


def test_a_product_is_accumulated_before_it_is_scaled() -> None:
    """Passes with and without a second factor; the sum of the products is rounded once."""
    config = ArrayConfig(rows=2, cols=2, tensor_bits=4, acc_depth=4, products=True)
    scale = ScaleEntry().const({"mult": 1, "bias": 4}).as_bits()
    shift = ShiftEntry().const({"shift": 3, "linear": 1, "residual_offset": -5}).as_bits()
    writes = load(Destination.SCALE, {0: scale}) + load(Destination.SHIFT, {0: shift})
    zero = dict.fromkeys(WordControl(config).members, 0)
    passes = [(7, 1, 12), (-3, 0, 99), (200, 1, 2), (-256, 1, 0)]  # psum, multiply, joined
    cycles = [{} for _ in range(len(passes) + 3)]
    for n, (psum, multiply, joined) in enumerate(passes):
        flags = {"valid": 1, "first": int(n == 0), "multiply": multiply}
        cycles[n]["control"] = zero | flags
        cycles[n + 1]["residual"] = joined
        cycles[n + 2]["psum"] = psum
    total = sum(p * (joined - 5) if multiply else p for p, multiply, joined in passes)
    latency = 2 + config.lane_latency
    seen = simulate(Lane(config), [*writes, *cycles], ("result",), idle=latency)["result"]
    y = signed(seen[len(writes) + len(passes) - 1 + latency], 16)
    assert y == requantize(np.array([total]), np.array(1), np.array(4), np.array(3))[0]


@pytest.mark.parametrize("products", [False, True])
def test_a_token_has_a_factor_of_its_own(products: bool) -> None:
    """Sums, and 16-bit numbers in place of sums, by factor and signed mult; a skip term is added
    behind them."""
    config = ArrayConfig(4, 4, acc_depth=16, attention=True, products=products)
    scale = ScaleEntry().const({"mult": 3, "bias": 8}).as_bits()
    entry = {"shift": 4, "negative": 1, "residual_mult": 10, "residual_shift": 1}
    writes = load(Destination.SCALE, {0: scale})
    writes += load(Destination.SHIFT, {0: ShiftEntry().const(entry).as_bits()})
    zero = dict.fromkeys(WordControl(config).members, 0)
    rng = np.random.default_rng(0)
    count, lead = 12, config.control_lead
    total = lead + 1 + config.product_stages
    cycles: list[dict] = [{} for _ in range(count + total + 1)]
    want = []
    for n in range(count):
        psum, number = int(rng.integers(-2000, 2000)), int(rng.integers(-3000, 3000))
        factor = {"offset": int(rng.integers(-900, 900)), "mantissa": int(rng.integers(1, 65536)),
                  "shift": int(rng.integers(14, 20))}  # fmt: skip
        flags = {"valid": 1, "first": 1, "last": 1, "replace": n % 2, "residual_wide": 1}
        cycles[n]["control"] = zero | flags
        cycles[n + 1]["residual"] = number + 32768
        cycles[n + lead]["psum"] = psum
        cycles[n + total]["factor"] = factor
        term = number * 5
        value = (term if n % 2 else psum) - factor["offset"]
        scaled = scale_tokens(*(np.array(x) for x in (value, factor["mantissa"], factor["shift"])))
        parts = (np.array(part) for part in (scaled, -3, 8, 4))
        want.append(int(requantize(*parts, 0 if n % 2 else term)))
    latency = lead + config.lane_latency
    seen = simulate(Lane(config), [*writes, *cycles], ("result",), idle=latency)["result"]
    start = len(writes) + latency
    assert [signed(value, 16) for value in seen[start : start + count]] == want


def test_control_leaves_one_cycle_later() -> None:
    config = ArrayConfig(rows=2, cols=2)
    values = [0, 1, (1 << WordControl(config).size) - 1, 0x155, 0]
    cycles = [{"control": value} for value in values]
    assert simulate(Lane(config), cycles, ("control_out",), idle=1)["control_out"] == [0, *values]
