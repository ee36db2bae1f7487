"""Which wrong bits of each block of the hardware its own tests, and its proofs, notice.

``python -m benchmarks.block_tests [--mutants 20] [--seed 0] [--state FILE] [BLOCK ...]``: a random
sample of the mutants of each block (``wrong_bits``). Each runs through the block's test module, up
to the first failure; those that pass it go to the proof of the block, where there is one. One line
for each block, then the survivors. What was judged is kept in FILE, so that a run that was
interrupted goes on where it was. Needed are the folders ``tests`` and ``proofs``, and ``fork``.
"""

import os
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from amaranth.hdl import Fragment
from amaranth.lib import wiring

from benchmarks.samples import known, parser_of, save
from benchmarks.wrong_bits import WrongBit, planted, sample, source_line
from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.arch.registers import constants_of
from nupes.rtl.bus.control import BusControl
from nupes.rtl.bus.gearbox import Gearbox
from nupes.rtl.bus.reader import ReadMaster
from nupes.rtl.bus.registers import RegisterBlock
from nupes.rtl.bus.writer import WriteMaster
from nupes.rtl.control.fetcher import Fetcher
from nupes.rtl.control.sequencer import Sequencer
from nupes.rtl.control.stream import StreamEngine
from nupes.rtl.control.walk import Walk
from nupes.rtl.datapath.accumulator import Accumulator
from nupes.rtl.datapath.array import Array
from nupes.rtl.datapath.cell import Cell
from nupes.rtl.datapath.chain import Chain
from nupes.rtl.datapath.corner_turn import CornerTurn
from nupes.rtl.datapath.decoder import Decoder
from nupes.rtl.datapath.element_product import ElementProduct
from nupes.rtl.datapath.encoder import Encoder
from nupes.rtl.datapath.feeder import RowFeeder, WeightFeeder
from nupes.rtl.datapath.joining import JoiningLevels, JoiningWeights, Offsets
from nupes.rtl.datapath.lane import Lane
from nupes.rtl.datapath.max_pool import PoolUnit
from nupes.rtl.datapath.reciprocal import Reciprocal
from nupes.rtl.datapath.requantizer import Requantizer
from nupes.rtl.datapath.residual_term import ResidualTerm
from nupes.rtl.datapath.statistics import Statistics
from nupes.rtl.datapath.token_stage import TokenStage
from nupes.rtl.memory.activation import ActivationMemory
from nupes.rtl.memory.residual_reader import ResidualReader
from nupes.rtl.memory.stationary import StationaryReader
from nupes.rtl.memory.tokens import TokenMemory
from nupes.rtl.memory.writeback import Writeback

__all__ = ["BLOCKS", "Block", "main"]

SMALL = ArrayConfig(2, 2)
ATTENTION = ArrayConfig(4, 2, attention=True)
CHAINED = ArrayConfig(3, 3)
PROOF_SECONDS = 30
"""Seconds of processor time after which a proof is given up."""

LEAST_SECONDS = 20
"""Seconds of processor time after which the tests of a mutant are taken to hang, at least."""


@dataclass(frozen=True)
class Block:
    """A block: how it is built, its test module below ``tests/rtl``, its name among the proofs."""

    name: str
    build: Callable[[], wiring.Component]
    tests: str
    proof: str = ""

    @property
    def kind(self) -> type[wiring.Component]:
        """The class of the block."""
        block = self.build()
        Fragment.get(block, None)  # what is built must be used
        return type(block)


BLOCKS = (
    Block("accumulator", lambda: Accumulator(SMALL, 20), "datapath/accumulator", "accumulator"),
    Block("array", lambda: Array(CHAINED), "datapath/chain", "chains of an array"),
    Block("cell", lambda: Cell(SMALL), "datapath/cell", "cell"),
    Block("chain", lambda: Chain(CHAINED, 0), "datapath/chain", "chain"),
    Block("corner turn", lambda: CornerTurn(4, 4, 3), "datapath/corner_turn", "corner turn"),
    Block(
        "decoder", lambda: Decoder(SMALL, Destination.WEIGHT_TABLE, 8), "datapath/decoder",
        "decoder",
    ),
    Block(
        "element product", lambda: ElementProduct(ArrayConfig(2, 2, products=True)),
        "datapath/element_product", "element product",
    ),
    Block("encoder", lambda: Encoder(SMALL), "datapath/encoder", "encoder"),
    Block("row feeder", lambda: RowFeeder(SMALL), "datapath/feeder"),
    Block("weight feeder", lambda: WeightFeeder(SMALL), "datapath/feeder"),
    Block("joining levels", lambda: JoiningLevels(SMALL), "datapath/feeder"),
    Block("joining weights", lambda: JoiningWeights(SMALL), "datapath/feeder"),
    Block("offsets", lambda: Offsets(SMALL), "datapath/feeder"),
    Block("lane", lambda: Lane(SMALL), "datapath/lane"),
    Block("max-pool", lambda: PoolUnit(SMALL), "datapath/max_pool", "max-pool"),
    Block("reciprocal", Reciprocal, "datapath/reciprocal", "reciprocal"),
    Block("requantizer", lambda: Requantizer(SMALL), "datapath/requantizer", "requantizer"),
    Block("residual term", lambda: ResidualTerm(SMALL), "datapath/requantizer", "residual term"),
    Block("statistics", lambda: Statistics(ATTENTION), "datapath/statistics", "statistics"),
    Block("token stage", TokenStage, "datapath/token_stage", "token stage"),
    Block(
        "activation memory", lambda: ActivationMemory(ATTENTION), "memory/activation",
        "activation memory",
    ),
    Block("residual reader", lambda: ResidualReader(SMALL), "memory/writeback"),
    Block("stationary reader", lambda: StationaryReader(ATTENTION), "memory/stationary"),
    Block("token memory", lambda: TokenMemory(ATTENTION), "memory/tokens", "token memory"),
    Block("write-back", lambda: Writeback(SMALL), "memory/writeback", "results"),
    Block("fetcher", lambda: Fetcher(SMALL), "control/fetcher", "fetcher"),
    Block("sequencer", lambda: Sequencer(SMALL), "control/sequencer", "sequencer"),
    Block("stream engine", lambda: StreamEngine(SMALL), "control/stream"),
    Block("walk", Walk, "control/stream", "walk"),
    Block("bus control", lambda: BusControl(64), "bus/control"),
    Block("gearbox", lambda: Gearbox(96, 64), "bus/gearbox", "gearbox"),
    Block("read master", lambda: ReadMaster(SMALL, 64), "bus/reader", "read master"),
    Block("registers", lambda: RegisterBlock(constants_of(SMALL, 64)), "bus/registers"),
    Block("write master", lambda: WriteMaster(64), "bus/writer", "write master"),
)  # fmt: skip


def in_child(work: Callable[[], int], limit: float) -> tuple[int, float]:
    """Return the exit status of some work in a child process, and its seconds of processor time;
    the status is negative if a signal ended it, such as that of its limit."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1):
            os.dup2(null, stream)
        used = time.process_time()  # a child goes on counting from nought, but be sure
        limit = int(used + limit) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        status = 99
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


class Calm:
    """A plugin of pytest: the same examples every time, and none is made smaller."""

    def pytest_collection(self) -> None:
        from hypothesis import Phase, settings

        calm = settings(settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate])
        settings.register_profile("calm", calm)
        settings.load_profile("calm")


def tested(block: Block, mutant: WrongBit | None) -> int:
    """Return pytest's status of a block's fast tests."""
    import pytest

    folder, name = block.tests.split("/")
    options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    arguments = [*options, f"tests/rtl/{folder}/test_{name}.py"]
    if mutant is None:
        return int(pytest.main(arguments, plugins=[Calm()]))
    with planted(block.kind, mutant):
        return int(pytest.main(arguments, plugins=[Calm()]))


def proven(block: Block, mutant: WrongBit) -> int:
    """Return 0 if a mutant keeps the claims of its block in all sizes, 1 if it does not."""
    from proofs.catalogue import catalogue
    from proofs.harness import netlists
    from proofs.induction import ProofError, prove

    with planted(block.kind, mutant):
        for entry in [entry for entry in catalogue() if entry.block == block.proof][:2]:
            harness = entry.harness()
            try:
                prove(harness, netlists([harness])[harness.name])
            except ProofError:
                return 1
    return 0


def judge(block: Block, mutant: WrongBit, limit: float) -> str:
    """Return what became of a mutant: "tests", "hang", "proof" or "survivor"."""
    status, _ = in_child(lambda: tested(block, mutant), limit)
    if status < 0:
        return "hang"
    if status not in (0, 1):  # pytest's own: no test failed, something else went wrong
        raise SystemExit(f"tests of {block.name} ended with status {status} for {mutant}")
    if status:
        return "tests"
    if block.proof and in_child(lambda: proven(block, mutant), PROOF_SECONDS)[0] == 1:
        return "proof"
    return "survivor"


def measure(block: Block, count: int, seed: int, judged: dict, keep: Callable[[], None]) -> dict:
    """Judge a sample of a block's mutants that were not ``judged``; ``keep`` saves them."""
    every, mutants = sample(block.build(), count, seed)
    found = judged.setdefault(f"{block.name} {seed}", {"all": every, "verdicts": {}})
    if "seconds" not in found:
        status, found["seconds"] = in_child(lambda: tested(block, None), 3600)
        if status:
            raise SystemExit(f"tests of {block.name} must pass without mutants; status {status}")
    limit = max(LEAST_SECONDS, 3 * found["seconds"])
    for number, mutant in enumerate(mutants, start=1):
        if str(mutant) not in found["verdicts"]:
            verdict = judge(block, mutant, limit)
            found["verdicts"][str(mutant)] = asdict(mutant) | {"verdict": verdict}
            keep()
            now = time.strftime("%H:%M:%S")
            print(f"{now} {block.name} {number}/{len(mutants)}: {verdict}", file=sys.stderr)
    # A larger sample has all of a smaller one.
    chosen = {str(mutant) for mutant in mutants}
    verdicts = {label: v for label, v in found["verdicts"].items() if label in chosen}
    return found | {"verdicts": verdicts}


def row(name: str, every: int, verdicts: Sequence[str]) -> str:
    """Return a line of the table."""
    tally = Counter(verdicts)
    killed = len(verdicts) - tally["survivor"]
    score = f"{100 * killed / len(verdicts):.0f} %" if verdicts else "-"
    cells = [name, f"{len(verdicts)} ({every})"]
    cells += [str(tally[kind]) for kind in ("tests", "hang", "proof", "survivor")]
    return f"| {' | '.join([*cells, score])} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = parser_of("benchmarks.block_tests", __doc__, 20)
    options = parser.parse_args(arguments)
    os.environ.setdefault("CI", "true")
    judged = known(options.state)

    # What children need is here before they are forked.
    import pytest  # noqa: F401

    import proofs.catalogue  # noqa: F401
    import tests.conftest
    import tests.rtl.testbench  # noqa: F401

    named = {block.name: block for block in BLOCKS}
    if unknown := set(options.blocks) - set(named):
        parser.error(f"blocks must be among {', '.join(named)}, not {', '.join(unknown)}")
    chosen = [named[name] for name in options.blocks or named]
    results = {
        block.name: measure(
            block, options.mutants, options.seed, judged, lambda: save(judged, options.state)
        )
        for block in chosen
    }
    print("| block | mutants (of) | by tests | hang | by proof | survivors | score |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    total: list[str] = []
    for name, found in results.items():
        verdicts = [entry["verdict"] for entry in found["verdicts"].values()]
        total += verdicts
        print(row(name, found["all"], verdicts))
    print(row("all", sum(found["all"] for found in results.values()), total))
    for name, found in results.items():
        for label, entry in found["verdicts"].items():
            if entry["verdict"] == "survivor":
                source = source_line(named[name].kind, entry["line"])
                print(f"{name}: {label}: {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
