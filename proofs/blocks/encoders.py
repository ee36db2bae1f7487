"""The encoder of a lane: a binary search, one comparison at a time."""

from amaranth.hdl import Cat, Const, Signal, Value, signed

from nupes.arch.config import ArrayConfig
from nupes.rtl.datapath.encoder import Encoder
from proofs.harness import Harness
from proofs.parts import past

__all__ = ["encoder"]


def encoder(config: ArrayConfig, name: str) -> Harness:
    """Claim that the result is the map's entry at the place of ``y`` among the thresholds: the one
    below its place, if any, does not exceed ``y``, the one above, if any, does.

    If thresholds rise, that is ``#{k : y >= thresholds[k]}``: the place is unique. For any tables,
    which stay as they are while a search is under way.

    One threshold is followed, whichever it is: a node, by its level and its place there. Stage by
    stage each search that came by it has the digit that says whether ``y`` reaches it. Both
    neighbours of a leaf are nodes that its search came by: that is a claim about the last stage
    alone, without any memory.
    """
    stages = config.encoder_stages
    h = Harness(name, 1, "encoder")
    dut = Encoder(config)
    h.drive(dut, load__valid=Const(0))
    inputs = h.inputs
    slot, depth, y, ready = inputs["slot"], inputs["depth"], inputs["y"], Const(1)
    h.assume(depth <= stages, "depth_exists")
    node, at = h.fixed("node", stages), h.fixed("at", len(slot))
    thresholds = [
        h.entry(f"dut.thresholds_{level}", Cat(node[:level], at), 16).as_signed()
        for level in range(stages)
    ]
    index: Value = Const(0, 0)
    for stage in range(stages + 1):
        slot = past(h.module, slot, 1, f"slot_of_{stage}")
        depth = past(h.module, depth, 1, f"depth_of_{stage}")
        begun = Signal(name=f"ready_{stage}")
        h.module.d.sync += begun.eq(ready)
        y = past(h.module, y, 1, f"y_of_{stage}") if stage else y
        ready, last = begun, stage == stages
        index = h.probe(f"dut.index_{stage}", stage) if stage and not last else index
        if last:
            found = h.probe(f"dut.found_{stage - 1}", stages)
            index = past(h.module, found, 1, "index_end")
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
            so_far = ready & ((depth == done) if done < stage else (depth >= stage))
            leaf = index[:done]
            h.claim(f"place_{stage}_{done}", ~so_far | (index == leaf))
            here = so_far & (slot == at)
            h.claim(f"digits_{stage}_{done}", ~here | digits(leaf, node, y, thresholds))
            if last:
                neighbours(h, f"{done}", here, leaf, node, y, thresholds)
    entry = h.entry(
        "dut.codes", Cat(index, slot) if len(index) == dut.node_bits else
        Cat(index[: dut.node_bits], slot), config.joined_bits
    )  # fmt: skip
    h.claim("map", ~ready | (depth == 0) | (dut.result == entry))
    h.claim("host", ~ready | (depth != 0) | (dut.result == y[:16]))
    return h


def digits(leaf: Value, node: Value, y: Value, thresholds: list[Value]) -> Value:
    """Return whether the digit after each node that the search came by is that of its comparison:
    at level ``l`` it came by the node whose place is the first ``l`` digits of the leaf."""
    right: Value = Const(1)
    for level in range(len(leaf)):
        digit = len(leaf) - 1 - level
        passed = leaf[digit + 1 :] == node[:level]
        right &= ~passed | (leaf[digit] == (y >= thresholds[level]))
    return right


def neighbours(
    h: Harness, name: str, when: Value, leaf: Value, node: Value, y: Value, thresholds: list[Value]
) -> None:
    """Claim that the thresholds on both sides of a leaf of a tree enclose ``y``.

    In rising order the thresholds are the nodes in order: node ``p`` of level ``l`` is number
    ``((2 * p + 1) << (levels - 1 - l)) - 1``. The one above leaf ``i`` is number ``i``, the one
    below number ``i - 1``.
    """
    levels = len(leaf)
    below, above = Const(1), Const(1)
    for level in range(levels):
        number = Signal(levels, name=f"number_{name}_{level}")
        place = (Cat(Const(1, 1), node[:level]) << (levels - 1 - level)) - 1
        h.module.d.comb += number.eq(place)
        below &= (number + 1 != leaf) | (thresholds[level] <= y)
        above &= (number != leaf) | (y < thresholds[level])
    h.claim(f"below_{name}", ~when | below)
    h.claim(f"above_{name}", ~when | above)
