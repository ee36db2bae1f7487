"""Mutation scores: which wrong bits of a block its specification notices.

``python -m benchmarks.mutants [--mutants 200] [--state FILE] [BLOCK ...]``: one line for each
block, in its first size in the catalogue of proofs. What was judged is kept in FILE, so that a run
that was interrupted goes on where it was.
"""

import sys
from collections.abc import Sequence

from benchmarks.samples import known, parser_of, save
from proofs.catalogue import Entry, catalogue
from proofs.harness import netlists
from proofs.mutants import judge

__all__ = ["main", "representatives"]

CELLS = ("decode 8x9", "uniform 4x5", "square 4x5", "pair 4x5", "product")
"""The sizes of cells that stand for their kinds."""


def representatives() -> list[Entry]:
    """Return one entry for each block, and for each kind of cell."""
    chosen: dict[str, Entry] = {}
    for entry in catalogue():
        key = entry.name if entry.block == "cell" else entry.block
        if entry.block != "digit of a root" and (entry.block != "cell" or entry.sizes in CELLS):
            chosen.setdefault(key, entry)
    return list(chosen.values())


def measure(entry: Entry, count: int, seed: int) -> dict[str, int | float]:
    """Return the numbers of one block."""
    harness = entry.harness()
    verdict = judge(harness, netlists([harness])[harness.name], count, seed)
    return {
        "all": verdict.sites,
        "mutants": verdict.mutants,
        "simulated": verdict.simulated,
        "proven": verdict.proven,
        "equal": verdict.equal,
        "survivors": len(verdict.survivors),
        "score": round(100 * verdict.score, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = parser_of("benchmarks.mutants", __doc__, 200).parse_args(arguments)
    found = known(options.state)
    entries = [e for e in representatives() if not options.blocks or e.block in options.blocks]
    print("| block | size | mutants (of) | by inputs | by proof | equal | survivors | score |")
    print("| --- | --- | --: | --: | --: | --: | --: | --: |")
    for entry in entries:
        key = f"{entry.name} {options.mutants} {options.seed}"
        if key not in found:
            found[key] = measure(entry, options.mutants, options.seed)
            save(found, options.state)
        row = found[key]
        counted = f"{row['mutants']} ({row['all']})"
        cells = [entry.block, entry.sizes, counted]
        cells += [str(row[name]) for name in ("simulated", "proven", "equal", "survivors")]
        print(f"| {' | '.join(cells)} | {row['score']} % |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
