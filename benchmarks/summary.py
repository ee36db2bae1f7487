"""What is known of the coverage, as Markdown."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.alone import Result, runs
from benchmarks.zoo import KINDS, UNKNOWN

__all__ = ["first_reason", "print_tables"]


def first_reason(result: Result) -> str:
    """Return the first reason why a network does not run; empty if there is none."""
    for operator, reason in result.get("problems", []):
        return f"`{operator}` {reason}" if operator else reason
    return result.get("reason", "")


def print_tables(found: dict[str, Any]) -> None:
    """Print how many networks of each kind run, why the others do not, and every network."""
    known = dict(sorted((found["check"] | found["accept"]).items()))
    print(f"Seed {found['seed']}.")
    for stamp, count in Counter(stamps([known, found["simulate"]])).items():
        print(f"{count} results of {stamp}.")
    print_counts(found["networks"], known)
    reasons: dict[str, list[str]] = {}
    for name, result in known.items():
        if not runs(result):
            reasons.setdefault(shorten(first_reason(result)), []).append(name)
    print_rows(("first reason", "networks", ""), by_count(reasons))
    print_rows(
        ("network", "", "layers", "million MACs", "cycles at 16x16", "seconds"),
        (row(name, result) for name, result in known.items()),
    )
    simulated = sorted(found["simulate"].items())
    if simulated:
        print_rows(("simulated", "image", "cycles", ""), (tail(*item) for item in simulated))


def is_captured(result: Result) -> bool:
    """Whether nothing was found in a network that does not run, though more may be refused than
    its capture."""
    return bool(result.get("layers"))


def is_accepted(result: Result) -> bool:
    """Whether a network is quantized and compiled."""
    return "cycles" in result


def stamps(measures: Iterable[dict[str, Result]]) -> list[str]:
    """Return the date and the versions of every result."""
    return [f"{r['date']}: {r['versions']}" for results in measures for r in results.values()]


def print_counts(networks: dict[str, Any], known: dict[str, Result]) -> None:
    """Print of each library and kind how many networks there are, and of those that were measured
    how many run."""
    rows = []
    for library in sorted({name.split("/")[0] for name in networks}):
        for kind in (*KINDS, UNKNOWN):
            names = [
                name
                for name, network in networks.items()
                if name.startswith(f"{library}/") and network["kind"] == kind
            ]
            tried = [known[name] for name in names if name in known]
            captured, accepted = sum(map(is_captured, tried)), sum(map(is_accepted, tried))
            if names:
                rows.append((library, kind, len(names), len(tried), captured, accepted))
    print_rows(("library", "kind", "networks", "measured", "captured", "accepted"), rows)


def by_count(reasons: dict[str, list[str]]) -> list[tuple[Any, ...]]:
    """Return the reasons, the most frequent one first."""
    found = sorted(reasons.items(), key=lambda item: -len(item[1]))
    return [(reason, len(names), ", ".join(sorted(names))) for reason, names in found]


def row(name: str, result: Result) -> tuple[Any, ...]:
    """Return what is known of a network."""
    macs = result.get("macs", 0) / 1e6
    return (
        name,
        shorten(first_reason(result)) or ("accepted" if is_accepted(result) else "captured"),
        result.get("layers") or "",
        f"{macs:,.0f}" if macs else "",
        f"{result['cycles']:,}" if "cycles" in result else "",
        f"{result['seconds']:.0f}" if "seconds" in result else "",
    )


def tail(name: str, result: Result) -> tuple[Any, ...]:
    """Return what the simulation of a network gave."""
    state = "equal" if runs(result) else result.get("reason", "not equal")
    size, cycles = result.get("size", ""), result.get("cycles")
    return name, f"{size}x{size}" if size else "", f"{cycles:,}" if cycles else "", state


def shorten(reason: str) -> str:
    """Return a reason as the first words of a table's cell."""
    return " ".join(reason.split())[:100].replace("|", "/")


def print_rows(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table."""
    print(
        "",
        "| " + " | ".join(titles) + " |",
        "| " + " | ".join("---" for _ in titles) + " |",
        sep="\n",
    )
    for cells in rows:
        print("| " + " | ".join(map(str, cells)) + " |")
