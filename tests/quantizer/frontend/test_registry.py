"""Arguments by the names of the schema, however they are given."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from nupes.quantizer.frontend import handlers
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.registry import (
    HANDLERS,
    arguments,
    base_name,
    handles,
    strangers,
    supported,
)
from tests.quantizer.test_operators import Call


def call(function: Callable[[Tensor], Tensor]) -> fx.Node:
    """Return the last call of a function's program."""
    program = export_module(Call(lambda s, x: function(x)), (2, 3, 10, 9))
    return [node for node in program.graph.nodes if node.op == "call_function"][-1]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: torch.rsub(x, 3.0, alpha=2.0), {"other": 3.0, "alpha": 2.0}),
        (lambda x: torch.sub(x, 3.0), {"alpha": 1}),
        (lambda x: F.max_pool2d(x, 2), {"kernel_size": [2, 2], "ceil_mode": False}),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=3), {"divisor_override": 3}),
        (lambda x: F.leaky_relu(x), {"negative_slope": 0.01}),
        (lambda x: F.hardtanh(x, max_val=2.0), {"min_val": -1.0, "max_val": 2.0}),
    ],
)
def test_arguments_have_the_names_of_the_schema(
    function: Callable[[Tensor], Tensor], expected: dict[str, object]
) -> None:
    found = arguments(call(function))
    assert isinstance(found["input"], fx.Node)
    assert {name: found[name] for name in expected} == expected


def test_names_are_bare() -> None:
    assert base_name(call(lambda x: x.clone().relu_())) == "relu"
    assert base_name(call(lambda x: torch.ops.aten._adaptive_avg_pool2d(x, [1, 1]))) == (
        "_adaptive_avg_pool2d"
    )


def test_only_other_values_than_defaults_are_strange() -> None:
    node = call(lambda x: torch.mean(x, (2, 3), dtype=torch.float32))
    assert strangers(node, HANDLERS["mean"]) == {"dtype": (torch.float32, None)}
    assert strangers(call(lambda x: torch.mean(x, (2, 3))), HANDLERS["mean"]) == {}


def test_a_handler_reads_what_its_signature_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nupes.quantizer.frontend.registry.HANDLERS", found := {})

    @handles("one", "other", ignores=("momentum",))
    def handler(call: object, input: fx.Node, eps: float) -> str:
        return ""

    assert list(found) == ["one", "other"]
    assert found["one"].reads == {"input", "eps"}
    assert found["one"].ignores == {"momentum"}


def test_every_family_has_operators() -> None:
    modules = {handler.translate.__module__.split(".")[-1] for handler in HANDLERS.values()}
    assert modules == set(handlers.FAMILIES)
    assert "getitem" not in supported()
    assert "conv2d" in supported()
