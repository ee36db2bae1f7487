"""Wrong bits of a block's source: which there are, and that whatever builds the block has them."""

import random
from pathlib import Path

from benchmarks.block_tests import BLOCKS
from benchmarks.wrong_bits import WrongBit, planted, sample
from nupes.rtl.datapath.corner_turn import CornerTurn
from nupes.rtl.datapath.decoder import Decoder
from proofs.catalogue import catalogue
from tests.rtl.testbench import simulate

ROOT = Path(__file__).parents[2]


def block() -> CornerTurn:
    return CornerTurn(3, 2, 2)


def rows() -> list[int]:
    """Return what the block gives for random inputs."""
    chance = random.Random(0)
    cycles = [
        {
            "fill": chance.getrandbits(1),
            "drain": chance.getrandbits(1),
            "column": [chance.getrandbits(2) for _ in range(3)],
        }
        for _ in range(60)
    ]
    return simulate(block(), cycles, ("row",))["row"]


def test_a_sample_is_part_of_a_larger_one() -> None:
    every, few = sample(block(), 5, 0)
    again, many = sample(block(), 20, 0)
    assert every == again > 20
    assert set(few) < set(many)
    assert few != sample(block(), 5, 1)[1]


def test_a_planted_bit_is_there_meanwhile() -> None:
    right = rows()
    for mutant in sample(block(), 5, 0)[1]:
        with planted(CornerTurn, mutant):
            assert rows() != right, f"{mutant} must be there"
    assert rows() == right


def test_what_is_not_there_changes_nothing() -> None:
    """Another size of a block may have fewer statements."""
    right = rows()
    with planted(CornerTurn, WrongBit(1, 0, (0,), 0, "inv")):
        assert rows() == right


def test_other_blocks_stay_as_they_are() -> None:
    elaborate = Decoder.elaborate
    with planted(CornerTurn, sample(block(), 1, 0)[1][0]):
        assert Decoder.elaborate is elaborate


def test_every_block_has_tests_and_perhaps_a_proof() -> None:
    proofs = {"", *(entry.block for entry in catalogue())}
    for entry in BLOCKS:
        folder, name = entry.tests.split("/")
        assert (ROOT / "tests" / "rtl" / folder / f"test_{name}.py").exists()
        assert entry.proof in proofs
