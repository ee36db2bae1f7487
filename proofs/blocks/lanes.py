"""The rest of a lane: accumulator, encoder, token stage."""

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed

from nupes.arch.config import ArrayConfig, clog2
from nupes.model.operators.subtract_max import MASKED_DISTANCE
from nupes.model.token_stage import MANTISSA_MAX
from nupes.rtl.datapath.accumulator import Accumulator
from nupes.rtl.datapath.encoder import Encoder
from nupes.rtl.datapath.token_stage import TokenStage
from proofs.blocks.requantizer import rounded
from proofs.harness import Harness
from proofs.parts import filled, past, product

__all__ = ["accumulator", "encoder", "token_stage"]


def accumulator(config: ArrayConfig, name: str) -> Harness:
    """Claim that a total is the sum since the latest ``first`` at its address, whichever it is."""
    h = Harness(name, 2, "accumulator")
    dut = Accumulator(config, config.psum_bits)
    h.drive(dut)
    m, inputs = h.module, h.inputs
    at = h.fixed("at", clog2(config.acc_depth))
    # The control comes a cycle before the sum that it is about.
    valid, first = (
        past(m, inputs["valid"], 1, "valid_past"),
        past(m, inputs["first"], 1, "first_past"),
    )
    shift, address = (
        past(m, inputs.get("shift", Const(0)), 1, "s_past"),
        past(m, inputs["address"], 1, "a_past"),
    )
    started, known = filled(m, 1), Signal()
    total = Signal(signed(config.acc_bits), reset_less=True)
    after = Signal(signed(config.acc_bits))
    here = started & valid & (address == at)
    m.d.comb += after.eq(Mux(first, 0, total) + (inputs["psum"] << shift))
    with m.If(here):
        m.d.sync += [total.eq(after), known.eq(known | first)]
    summed = past(m, here & (known | first), 1, "summed")
    h.claim("total", ~started | ~summed | (dut.total == total))
    stored = h.entry("dut.sums", at, config.acc_bits)
    h.claim("memory", ~known | (stored == total[: config.acc_bits]))
    return h


def encoder(config: ArrayConfig, name: str) -> Harness:
    """Claim that the result is the map's entry at the place of ``y`` among the thresholds: the one
    below its place, if any, does not exceed ``y``, the one above, if any, does.

    If thresholds rise, that is ``#{k : y >= thresholds[k]}``: the place is unique. For any tables,
    which stay as they are while a search is under way.
    """
    stages = config.encoder_stages
    h = Harness(name, 1, "encoder")
    dut = Encoder(config)
    h.drive(dut, load__valid=Const(0))
    m, inputs = h.module, h.inputs
    slot, depth, y, ready = inputs["slot"], inputs["depth"], inputs["y"], Const(1)
    h.assume(depth <= stages, "depth_exists")
    index: Value = Const(0, 0)
    for stage in range(stages + 1):
        slot, depth = past(m, slot, 1, f"slot_of_{stage}"), past(m, depth, 1, f"depth_of_{stage}")
        begun = Signal(name=f"ready_{stage}")
        m.d.sync += begun.eq(ready)
        y = past(m, y, 1, f"y_of_{stage}") if stage else y
        ready, last = begun, stage == stages
        index = h.probe(f"dut.index_{stage}", stage) if stage and not last else index
        if last:
            index = past(m, h.probe(f"dut.found_{stage - 1}", stages), 1, "index_end")
        else:
            delayed = (h.probe(f"dut.slot_{stage}", len(slot)) == slot) & (
                h.probe(f"dut.depth_{stage}", len(depth)) == depth
            )
            if stage:
                delayed &= h.probe(f"dut.y_{stage}", signed(16)) == y
            h.claim(f"delayed_{stage}", ~ready | delayed)
            memory = f"dut.thresholds_{stage}"
            entry = h.entry(memory, Cat(index, slot), 16)
            h.claim(f"read_{stage}", ~ready | (h.probe(f"{memory}(0)", 16) == entry))
        for done in range(1, stage + 1):
            # Comparisons so far: as many as stages, or the depth if that is less.
            so_far = (depth == done) if done < stage else (depth >= stage)
            place = index[:done]
            h.claim(f"place_{stage}_{done}", ~(ready & so_far) | (index == place))
            bounds(h, f"{stage}_{done}", ready & so_far, place, slot, y)
    entry = h.entry(
        "dut.codes", Cat(index, slot) if len(index) == dut.node_bits else
        Cat(index[: dut.node_bits], slot), config.joined_bits
    )  # fmt: skip
    h.claim("map", ~ready | (depth == 0) | (dut.result == entry))
    h.claim("host", ~ready | (depth != 0) | (dut.result == y[:16]))
    return h


def bounds(h: Harness, name: str, when: Value, place: Value, slot: Value, y: Value) -> None:
    """Claim that the thresholds on both sides of a leaf of a tree enclose ``y``.

    A leaf's ``place`` has a digit for each level. The thresholds in rising order are the nodes in
    order: the one above leaf ``i`` lies as many levels above the lowest one as ``i`` ends with
    ones; the one below leaf ``i`` is above leaf ``i - 1``.
    """
    levels, m = len(place), h.module

    def threshold(leaf: Value, side: str) -> Signal:
        found = Signal(signed(16), name=f"{side}_{name}")
        for ones in range(levels):
            level = levels - 1 - ones
            address = Cat(leaf[ones + 1 :], slot)
            entry = h.entry(f"dut.thresholds_{level}", address, 16)
            with m.If(leaf[: ones + 1] == (1 << ones) - 1):
                m.d.comb += found.eq(entry)
        return found

    below = threshold((place - 1)[:levels].as_unsigned(), "below_of")
    above = threshold(place, "above_of")
    h.claim(f"below_{name}", ~when | (place == 0) | (below <= y))
    h.claim(f"above_{name}", ~when | place.all() | (y < above))


def token_stage(name: str) -> Harness:
    """Claim that the token stage is the contract's arithmetic of the difference."""
    h = Harness(name, 3, "token stage")
    dut = TokenStage()
    h.drive(dut)
    m, factor = h.module, h.inputs["factor"]
    difference = Signal(signed(33))
    m.d.comb += difference.eq(
        Mux(h.inputs["masked"], MASKED_DISTANCE, h.inputs["value"] - factor.offset)
    )
    top = 1 << 31
    fits = past(m, (difference >= -top) & (difference < top), 3, "fits_past")
    distance = past(m, difference[:32].as_signed(), 3, "distance_past")
    mantissa, shift = past(m, factor.mantissa, 3, "m_past"), past(m, factor.shift, 3, "s_past")
    exact = product(m, distance, mantissa, 48, ((-top, top - 1), (0, MANTISSA_MAX)))
    spec = rounded(exact, shift)
    h.show("spec", spec)
    allowed = fits & (shift != 0) & (spec >= -top) & (spec < top)
    h.claim("result", ~filled(m, 3) | ~allowed | (dut.result == spec))
    return h
