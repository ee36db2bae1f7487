"""Induction: claims hold in every cycle, because they do after reset and stay so."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from bitwuzla import Bitwuzla, Kind, Option, Options, Result, Term, TermManager

from proofs.harness import Harness
from proofs.netlist import Netlist
from proofs.terms import Unrolling

__all__ = ["Counterexample", "Proof", "ProofError", "prove"]


@dataclass(frozen=True)
class Counterexample:
    """Inputs under which ``claim`` fails in the last cycle; ``stage`` says whether they begin with
    the reset ("reset") or in any state in which the claims have held ("any state")."""

    claim: str
    stage: str
    inputs: list[dict[str, int]]

    def __str__(self) -> str:
        rows = [f"cycle {n}: {values}" for n, values in enumerate(self.inputs)]
        return "\n".join([f"{self.claim} fails, from {self.stage}:", *rows])


class ProofError(AssertionError):
    """A claim that does not hold."""

    def __init__(self, harness: str, found: Counterexample) -> None:
        super().__init__(f"{harness}: {found}")
        self.found = found


@dataclass(frozen=True)
class Proof:
    """What was proven: ``bound`` is 0 if for every cycle, else the number of cycles from reset."""

    name: str
    block: str
    claims: tuple[str, ...]
    depth: int
    bound: int
    seconds: float


class Query:
    """One unrolling with one solver."""

    def __init__(self, netlist: Netlist, harness: Harness) -> None:
        options = Options()
        options.set(Option.PRODUCE_MODELS, True)
        self.manager = TermManager()
        self.solver = Bitwuzla(self.manager, options)
        self.unrolling = Unrolling(netlist, self.manager)
        self.harness, self.netlist = harness, netlist

    def truth(self, cycle: int, output: str) -> Term:
        """Return a claim or an assumption in some cycle."""
        value = self.unrolling.value(cycle, self.netlist.outputs[output])
        return self.unrolling.terms.holds(value)

    def suppose(self, cycle: int, outputs: Mapping[str, object]) -> None:
        """Assert outputs in some cycle."""
        for output in outputs:
            self.solver.assert_formula(self.truth(cycle, output))

    def check(self, cycle: int, stage: str) -> None:
        """Raise ``ProofError`` if a claim can fail in some cycle."""
        for claim in self.harness.claims:
            term = self.truth(cycle, claim)
            self.solver.push(1)
            self.solver.assert_formula(self.manager.mk_term(Kind.NOT, [term]))
            result = self.solver.check_sat()
            if result != Result.UNSAT:
                assert result == Result.SAT, f"{self.harness.name}: the solver must decide {claim}"
                raise ProofError(self.harness.name, self.counterexample(claim, stage))
            self.solver.pop(1)

    def counterexample(self, claim: str, stage: str) -> Counterexample:
        """Return the inputs of the solver's present model."""
        inputs = [
            {
                name: int(self.solver.get_value(term).value(10))
                for name, term in row.items()
                if name != "clk"
            }
            for row in self.unrolling.inputs
        ]
        return Counterexample(claim, stage, inputs)


def prove(harness: Harness, netlist: Netlist) -> Proof:
    """Prove all claims of a harness, or raise ``ProofError``.

    From reset: in any state, with memories of any contents, ``rst`` is high for a cycle and low
    from then on; the claims hold in the ``depth`` cycles that follow (``bound`` cycles, if there is
    a bound). From any state: if they hold in ``depth`` cycles without reset, they hold in the next
    one.
    """
    started = time.perf_counter()
    query = Query(netlist, harness)
    query.unrolling.advance(reset=1)
    for cycle in range(1, (harness.bound or harness.depth) + 1):
        query.unrolling.advance(reset=0)
        query.suppose(cycle, harness.assumptions)
        query.check(cycle, "reset")
        query.suppose(cycle, harness.claims)
    if not harness.bound:
        query = Query(netlist, harness)
        for cycle in range(harness.depth):
            query.unrolling.advance(reset=0)
            query.suppose(cycle, harness.assumptions)
            query.suppose(cycle, harness.claims)
        query.unrolling.advance(reset=0)
        query.suppose(harness.depth, harness.assumptions)
        query.check(harness.depth, "any state")
    seconds = time.perf_counter() - started
    return Proof(
        harness.name,
        harness.block,
        tuple(harness.claims),
        harness.depth,
        harness.bound,
        seconds,
    )
