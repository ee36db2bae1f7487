"""What keeps a network from being captured, and what to do about it."""

from dataclasses import dataclass

__all__ = ["Problem", "find_advice"]

CONSTANT_WEIGHTS = (
    "products must have constant weights, as in Linear or Conv2d; attention is "
    "F.scaled_dot_product_attention"
)
OTHERWISE = "replace it, or keep it on the host, before or after the network"

ADVICE = {
    "cat": "join branches with an addition",
    "concat": "join branches with an addition",
    "conv3d": "only one- and two-dimensional convolutions are supported",
    "bmm": CONSTANT_WEIGHTS,
    "matmul": CONSTANT_WEIGHTS,
    "mul": "bring both factors to one shape, or one of them to sizes of 1",
    "softmax": OTHERWISE,
    "mean": "take the mean over height and width: x.mean((2, 3))",
}
"""What to do about an operator, by its name."""

LAST = {
    name: "leave it out: it changes no ranking; apply it to the result on the host"
    for name in ("softmax", "log_softmax")
}
"""What to do about an operator that gives the network's output."""


@dataclass(frozen=True)
class Problem:
    """An operator that cannot run: the path of its module, its name, why, and what to do."""

    module: str
    operator: str
    reason: str
    advice: str = ""


def find_advice(operator: str, known: bool, last: bool) -> str:
    """Return what to do about an operator; a ``known`` one was refused with a reason of its own,
    the ``last`` one gives the network's output."""
    found = LAST.get(operator) if last else None
    return found or ADVICE.get(operator, "" if known else OTHERWISE)
