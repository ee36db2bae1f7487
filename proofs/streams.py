"""Streams: the contract of ``valid``, ``ready`` and payload, and that words keep their order.

Properties of any block with streams or credits; see ``blocks/fifos.py`` for their use.
"""

from dataclasses import dataclass

from amaranth.hdl import Const, Mux, Signal, Value

from proofs.harness import Harness

__all__ = ["Ledger", "keeps"]


def keeps(
    h: Harness,
    name: str,
    valid: Value,
    ready: Value,
    payload: Value,
    unless: Value | None = None,
    assume: bool = False,
) -> None:
    """Claim, or ``assume``, the contract of a stream's source: ``valid`` does not fall and the
    payload stays until a cycle in which ``ready`` is high, or ``unless`` was."""
    m, bits = h.module, Value.cast(payload)
    waits = Signal(name=f"{name}_waits")
    before = Signal(bits.shape(), name=f"{name}_before", reset_less=True)
    excused = Const(0) if unless is None else unless
    m.d.sync += [waits.eq(valid & ~ready & ~excused), before.eq(bits)]
    for rule, holds in (("stays", valid), ("payload_stays", bits == before)):
        rule_name = f"{name}_{rule}"
        if assume:
            h.assume(~waits | holds, rule_name)
        else:
            h.claim(rule_name, ~waits | holds)


@dataclass
class Ledger:
    """The words between two ends of a block, counted, and one of them followed.

    ``inside``: words that went in and did not come out. One word that goes in is picked, whichever
    it is: ``picked``, until it comes out; ``ahead`` words come before it; ``word`` is its payload.
    """

    inside: Signal
    picked: Signal
    ahead: Signal
    word: Signal

    @classmethod
    def keep(
        cls,
        h: Harness,
        name: str,
        into: tuple[Value, Value],
        out: tuple[Value, Value],
        capacity: int,
        clear: Value | None = None,
    ) -> "Ledger":
        """Claim that what comes ``out`` (transfer, payload) is what went ``into``, in order.

        No word is invented (one comes out only if one is inside), none is lost or overtakes
        another (the picked one comes out when all before it have), and at most ``capacity`` are
        inside. ``clear`` drops all.
        """
        m = h.module
        inside = Signal(range(capacity + 2), name=f"{name}_inside")
        ahead = Signal(range(capacity + 2), name=f"{name}_ahead")
        picked = Signal(name=f"{name}_picked")
        enters, leaves = into[0], out[0]
        word = Signal(Value.cast(into[1]).shape(), name=f"{name}_word", reset_less=True)
        pick = h.free(f"{name}_pick", 1) & ~picked & enters
        gone = clear if clear is not None else Const(0)
        m.d.sync += inside.eq(Mux(gone, 0, inside + enters - leaves))
        with m.If(gone):
            m.d.sync += picked.eq(0)
        with m.Elif(pick):
            m.d.sync += [picked.eq(1), ahead.eq(inside - leaves), word.eq(into[1])]
        with m.Elif(picked & leaves):
            m.d.sync += [ahead.eq(ahead - 1), picked.eq(ahead != 0)]
        h.claim(f"{name}_invents_nothing", ~leaves | (inside != 0))
        h.claim(f"{name}_order", ~(picked & leaves & (ahead == 0)) | (Value.cast(out[1]) == word))
        h.claim(f"{name}_loses_nothing", ~picked | (ahead < inside))
        h.claim(f"{name}_capacity", inside <= capacity)
        return cls(inside, picked, ahead, word)
