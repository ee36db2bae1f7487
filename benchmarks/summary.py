"""What is known of the coverage, as Markdown."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.alone import Result, runs

__all__ = ["first_reason", "print_tables"]

ATTENTION = {
    *("layer_norm", "native_layer_norm", "group_norm", "instance_norm", "rms_norm", "var"),
    *("var_mean", "linalg_vector_norm", "softmax", "scaled_dot_product_attention", "bmm"),
    *("matmul", "einsum", "lstm"),
}
"""Operators that make a network one of attention, recurrence, or norms of each token or image,
where they are refused: a convolutional one has none of them."""


KINDS = ("convolutional", "with attention or norms", "not known")


def kind_of(check: Result) -> str:
    """Return the kind of a network; it is not known of one that was not looked at to its end."""
    if "reason" in check:
        return KINDS[2]
    return KINDS[any(operator in ATTENTION for operator, _ in check.get("problems", []))]


def first_reason(*results: Result) -> str:
    """Return the first reason of results why a network does not run, that of attention before
    others; empty if there is none."""
    problems = [pair for result in results for pair in result.get("problems", [])]
    reasons = [pair for pair in problems if pair[0] in ATTENTION] or problems
    if reasons:
        operator, reason = reasons[0]
        return f"`{operator}` {reason}" if operator else reason
    return next((result["reason"] for result in results if "reason" in result), "")


def print_tables(found: dict[str, Any]) -> None:
    """Print how many networks of each kind run, why the others do not, and every network."""
    checks, accepts = known_checks(found), found["accept"]
    print(f"Seed {found['seed']}.")
    for stamp, count in Counter(stamps([found["check"], accepts, found["simulate"]])).items():
        print(f"{count} results of {stamp}.")
    print_counts(found)
    reasons: dict[str, list[str]] = {}
    for name, check in checks.items():
        reason = shorten(first_reason(check, accepts.get(name, {})))
        if reason:
            reasons.setdefault(reason, []).append(name)
    print_rows(("first reason", "networks", ""), by_count(reasons))
    print_rows(
        ("network", "", "layers", "million MACs", "cycles at 16x16", "seconds"),
        (row(name, check, accepts.get(name, {})) for name, check in checks.items()),
    )
    simulated = found["simulate"].items()
    if simulated:
        print_rows(("simulated", "image", "cycles", ""), (tail(*item) for item in simulated))


def known_checks(found: dict[str, Any]) -> dict[str, Result]:
    """Return what captures gave, and for accepted networks that they are captured."""
    accepted = {name: {} for name, result in found["accept"].items() if runs(result)}
    return dict(sorted((accepted | found["check"]).items()))


def stamps(measures: Iterable[dict[str, Result]]) -> list[str]:
    """Return the date and the versions of every result."""
    return [f"{r['date']}: {r['versions']}" for results in measures for r in results.values()]


def print_counts(found: dict[str, Any]) -> None:
    """Print how many networks of each library and kind run."""
    checks, accepts = known_checks(found), found["accept"]
    rows = []
    for library in sorted({name.split("/")[0] for name in checks}):
        for kind in KINDS:
            ours = [name for name in checks if name.startswith(f"{library}/")]
            names = [name for name in ours if kind_of(checks[name]) == kind]
            captured = sum(runs(checks[name]) for name in names)
            tried = [accepts[name] for name in names if name in accepts]
            accepted = f"{sum(map(runs, tried))} of {len(tried)}"
            if names:
                rows.append((library, kind, len(names), captured, accepted))
    print_rows(("library", "kind", "networks", "captured", "accepted"), rows)


def by_count(reasons: dict[str, list[str]]) -> list[tuple[Any, ...]]:
    """Return the reasons, the most frequent one first."""
    found = sorted(reasons.items(), key=lambda item: -len(item[1]))
    return [(reason, len(names), ", ".join(sorted(names))) for reason, names in found]


def row(name: str, check: Result, accept: Result) -> tuple[Any, ...]:
    """Return what is known of a network."""
    reason = first_reason(check, accept)
    state = shorten(reason) if reason else "accepted" if accept else "captured"
    known = check | accept
    macs = known.get("macs", 0) / 1e6
    return (
        name,
        state,
        known.get("layers") or "",
        f"{macs:,.0f}" if macs else "",
        f"{known['cycles']:,}" if "cycles" in known else "",
        f"{known['seconds']:.0f}" if "seconds" in known else "",
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
