"""Prove everything, and print what was proven: ``python -m proofs [--long] [BLOCK ...]``."""

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import groupby

from proofs.catalogue import Entry, catalogue
from proofs.harness import netlists
from proofs.induction import Proof, ProofError, prove

__all__ = ["main", "run"]


def run(entries: Sequence[Entry]) -> list[tuple[Entry, Proof]]:
    """Prove some entries; raise ``ProofError`` at the first claim that fails."""
    harnesses = [entry.harness() for entry in entries]
    built = netlists(harnesses)
    return [
        (entry, prove(harness, built[harness.name]))
        for entry, harness in zip(entries, harnesses, strict=True)
    ]


def rows(proven: Sequence[tuple[Entry, Proof]]) -> list[str]:
    """Return the table of proofs: one line for each block, all its sizes together."""
    lines = [
        "| block | sizes | claims | cycles of induction | s |",
        "| --- | --- | --: | --: | --: |",
    ]
    for block, group in groupby(proven, key=lambda pair: pair[0].block):
        pairs = list(group)
        sizes = [entry.sizes for entry, _ in pairs if entry.sizes]
        shown = ", ".join(sizes) if len(sizes) < 8 else f"{len(sizes)}: every kind and width"
        claims = sum(len(proof.claims) for _, proof in pairs)
        bound = max(proof.bound for _, proof in pairs)
        depth = f"{bound} from reset" if bound else max(proof.depth for _, proof in pairs)
        seconds = sum(proof.seconds for _, proof in pairs)
        lines.append(f"| {block} | {shown} | {claims} | {depth} | {seconds:.1f} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m proofs", description=__doc__)
    parser.add_argument("blocks", nargs="*", help="names of blocks, such as encoder; all of them")
    parser.add_argument("--long", action="store_true", help="also those that take minutes")
    options = parser.parse_args(arguments)
    chosen = [e for e in catalogue(options.long) if not options.blocks or e.block in options.blocks]
    if not chosen:
        known = ", ".join(sorted({entry.block for entry in catalogue(long=True)}))
        parser.error(f"blocks must be among {known}, not {', '.join(options.blocks)}")
    started = time.perf_counter()
    try:
        proven = run(chosen)
    except ProofError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(rows(proven)))
    print(f"\n{len(proven)} proofs in {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
