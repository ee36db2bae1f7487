"""What a node depends on, and its value for inputs that are tried."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

__all__ = ["ancestors", "evaluate", "source_of", "trials"]

TRIALS = 64
"""Random inputs that are tried, beside those of one zero and of one one."""


def source_of(node: fx.Node, inputs: Iterable[fx.Node]) -> fx.Node | None:
    """Return the one input on which a node depends, ``None`` if there is none or are several."""
    found = ancestors(node)
    given = [item for item in inputs if item in found]
    return given[0] if len(given) == 1 else None


def ancestors(node: fx.Node) -> set[fx.Node]:
    """Return a node and all on which it depends."""
    found, waiting = {node}, [node]
    while waiting:
        new = [source for source in waiting.pop().all_input_nodes if source not in found]
        found.update(new)
        waiting += new
    return found


def trials(keys: int, batch: int) -> Iterator[Tensor]:
    """Yield which keys a batch of inputs hides, bool (batch, keys): none, one, all but one, any."""
    generator = torch.Generator().manual_seed(0)
    one = torch.eye(keys, dtype=torch.bool)
    shares = torch.rand(TRIALS, 1, generator=generator)
    some = torch.rand(TRIALS, keys, generator=generator) < shares
    every = torch.cat([torch.zeros(1, keys, dtype=torch.bool), one, ~one, some])
    every = every[~every.all(1)]  # a query without a key has no softmax
    for first in range(0, len(every), batch):
        yield every[torch.arange(first, first + batch).clamp(max=len(every) - 1)]


def evaluate(
    node: fx.Node, source: fx.Node, given: Tensor, constants: dict[fx.Node, Tensor]
) -> Tensor:
    """Return the value of a call for an input, which stands for ``source``."""
    values: dict[fx.Node, Any] = {source: given}
    waiting = [node]
    while waiting:
        call = waiting[-1]
        missing = [value for value in call.all_input_nodes if value not in values]
        if call in values or missing:
            waiting = waiting[:-1] if call in values else waiting + missing
        elif call.op == "call_function":
            args, kwargs = map_arg((call.args, call.kwargs), lambda n: values[n])
            assert callable(call.target)
            values[call] = call.target(*args, **kwargs)
        else:
            values[call] = constants[call]
    return values[node]
