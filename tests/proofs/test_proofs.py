"""Every proof holds, and every one finds bugs that are planted in its block."""

import pytest

from benchmarks.mutants import representatives
from nupes.arch.config import ArrayConfig
from proofs.__main__ import rows, run
from proofs.blocks.fifos import fetcher, queue
from proofs.blocks.requantizer import requantizer
from proofs.catalogue import Entry, catalogue
from proofs.harness import netlists
from proofs.induction import ProofError, prove
from proofs.mutants import Mutant, equivalent, judge, mutants_of, mutated, owned
from proofs.netlist import CONSTANT, Part

LARGE = {"sequencer": "dut.offered", "statistics": "dut.tags.produce"}
"""A register of each block whose many bits are more than a few mutants of it reach."""

OTHERS = [entry for entry in representatives() if entry.block not in LARGE]


def test_names_are_unique() -> None:
    names = [entry.name for entry in catalogue(long=True)]
    assert len(names) == len(set(names))


def test_a_requantizer_and_a_queue() -> None:
    config = ArrayConfig(2, 2)
    proven = run(
        [
            Entry("requantizer", "", lambda name: requantizer(config, name)),
            Entry("queue", "3", lambda name: queue(3, 4, name)),
        ]
    )
    assert [entry.block for entry, _ in proven] == ["requantizer", "queue"]
    assert "| queue | 3 |" in rows(proven)[-1]


def test_one_place_too_few_is_found() -> None:
    """A queue that says that it has room for one word more than it has."""
    harness = queue(3, 4, "queue")
    netlist = netlists([harness])["queue"]
    # The place that compares the level with the depth, 3, for ``w_rdy``.
    compared = next(
        index
        for index, cell in enumerate(netlist.cells)
        if cell.kind == "$ne" and owned(cell.name) and cell.inputs["B"] == (Part(CONSTANT, 3, 2),)
    )
    with pytest.raises(ProofError, match=r"queue: .* fails, from"):
        prove(harness, mutated(netlist, Mutant(compared, "B", 0, "inv")))


def test_a_lost_credit_is_found() -> None:
    """A fetcher in which words on their way are never counted."""
    harness = fetcher(ArrayConfig(2, 2, burst=1, fetch_depth=2), "fetcher")
    netlist = netlists([harness])["fetcher"]
    (coming,) = netlist.names["dut.coming"]
    index = next(i for i, r in enumerate(netlist.registers) if r.word == coming.word)
    with pytest.raises(ProofError):
        prove(harness, mutated(netlist, Mutant(index, "", 0, "const0")))


def test_a_mutant_may_be_equal() -> None:
    harness = queue(3, 4, "queue")
    netlist = netlists([harness])["queue"]
    assert equivalent(netlist, netlist)
    _, mutants = mutants_of(netlist, 20)
    assert not all(equivalent(netlist, mutated(netlist, mutant)) for mutant in mutants)


@pytest.mark.slow
def test_everything_is_proven() -> None:
    """One run, as ``make proofs``."""
    assert len(run(catalogue())) == len(catalogue())


@pytest.mark.slow
@pytest.mark.parametrize("block", LARGE)
def test_what_large_blocks_forget_is_found(block: str) -> None:
    """A sequencer that offers a tile for one cycle, a unit whose queue of tokens loses its place:
    the lowest bit of the register is never set."""
    (entry,) = (entry for entry in representatives() if entry.block == block)
    harness = entry.harness()
    netlist = netlists([harness])[harness.name]
    (register,) = netlist.names[LARGE[block]]
    index = next(i for i, r in enumerate(netlist.registers) if r.word == register.word)
    with pytest.raises(ProofError):
        prove(harness, mutated(netlist, Mutant(index, "", 0, "const0")))


@pytest.mark.slow
@pytest.mark.parametrize("entry", OTHERS, ids=lambda entry: entry.name)
def test_every_proof_finds_planted_bugs(entry: Entry) -> None:
    harness = entry.harness()
    verdict = judge(harness, netlists([harness])[harness.name], 6)
    assert verdict.simulated + verdict.proven >= 1
