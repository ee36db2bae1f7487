"""Activation memory: which words a tensor may use while it lives."""

from dataclasses import dataclass, fields, replace

from nupes.arch.config import ArrayConfig
from nupes.model.errors import CapacityError

__all__ = ["MOST_DEPTH", "Request", "allocate", "words_needed"]


OR_SPILL = "; or let spills=True keep what does not fit in the program's memory"

MOST_DEPTH = 1 << 20
"""Largest ``act_depth``."""


@dataclass(frozen=True)
class Request:
    """A tensor that needs ``words`` from the layer that writes it (-1: the host) to its last
    reader, inclusive; it lies behind all the tensors named ``before`` it, and holds so many
    ``images`` of a batch. Those that come ``last`` take what the others leave.
    """

    name: str
    words: int
    born: int
    dies: int
    before: frozenset[str] = frozenset()
    images: int = 1
    last: bool = False


def arrange(requests: list[Request]) -> list[tuple[Request, int]]:
    """Return every tensor with its base address: largest first, but those behind others, and those
    that take what is left, last, each at the lowest address that is free during its life.
    """
    placed: list[tuple[Request, int]] = []
    order = sorted(
        requests, key=lambda item: (item.last, bool(item.before), -item.words, item.born)
    )
    for request in order:
        rivals = sorted(
            (base, base + other.words)
            for other, base in placed
            if other.born <= request.dies and request.born <= other.dies
        )
        ends = [base + other.words for other, base in placed if other.name in request.before]
        base = max(ends, default=0)
        for start, stop in rivals:
            if base + request.words <= start:
                break
            base = max(base, stop)
        placed.append((request, base))
    return placed


def words_needed(requests: list[Request]) -> int:
    """Return the words of memory that ``arrange`` takes."""
    return max((base + request.words for request, base in arrange(requests)), default=0)


def allocate(requests: list[Request], config: ArrayConfig) -> dict[str, int]:
    """Return the base address of every tensor; tensors that live at the same time never overlap.

    Raise ``CapacityError`` with the tensor, the words missing and the smallest ``act_depth`` that
    holds the network under this strategy.
    """
    placed, needed = arrange(requests), words_needed(requests)
    if needed > config.act_depth:
        worst = max(placed, key=lambda item: item[1] + item[0].words)[0]
        fits = describe(replace(config, act_depth=min(needed, MOST_DEPTH)))
        raise CapacityError(
            f"activation memory must hold {needed} words, but act_depth is {config.act_depth}: "
            f"tensor {worst.name!r} does not fit by {needed - config.act_depth} words; "
            + (
                f"the smallest that fits is {fits}{'' if config.spills else OR_SPILL}"
                if needed <= MOST_DEPTH
                else f"no act_depth up to {MOST_DEPTH} is enough"
            )
        )
    return {request.name: base for request, base in placed}


def describe(config: ArrayConfig) -> str:
    """Return the option of the command line that makes a configuration, fields with their default
    left out, and the call in Python."""
    shown = {
        item.name: getattr(config, item.name)
        for item in fields(config)
        if item.name not in ("rows", "cols") and getattr(config, item.name) != item.default
    }
    call = [f"rows={config.rows}", f"cols={config.cols}"]
    call += [f"{name}={value!r}" for name, value in shown.items()]
    option = [str(config)]
    for name, value in shown.items():
        value = int(value) if isinstance(value, bool) else value
        text = ":".join(map(str, value)) if isinstance(value, tuple) else str(value)
        option.append(f"{name}={text}")
    return f"--array {','.join(option)} or, in Python, ArrayConfig({', '.join(call)})"
