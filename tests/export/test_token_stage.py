"""Factors of tokens in ONNX Runtime, over the whole range of what they are made of."""

from collections.abc import Callable

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from nupes.export.graph import Graph
from nupes.export.onnx import OPSET, tokens
from nupes.model import token_stage as model
from tests.export.test_onnx import start


def numbers(bits: int) -> st.SearchStrategy[int]:
    """Draw positive numbers of any length up to so many bits, the ends of each length often."""

    def of(length: int) -> st.SearchStrategy[int]:
        low, high = 1 << (length - 1), (1 << length) - 1
        return st.sampled_from([low, high]) | st.integers(low, high)

    return st.integers(1, bits).flatmap(of)


def run(
    build: Callable[[Graph, str], list[str]], inputs: dict[str, np.ndarray]
) -> list[np.ndarray]:
    """Return what a graph makes of int64 numbers (b, 1, 1, 1)."""
    graph = Graph()
    outputs = build(graph, next(iter(inputs)))
    ends = [
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["tokens", 1, 1, 1])
            for name in names
        ]
        for names in (inputs, outputs)
    ]
    constants = list(graph.constants.values())
    made = helper.make_graph(graph.nodes, "tokens", *ends, initializer=constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return [np.asarray(found) for found in start(model).run(outputs, inputs)]


def column(values: list[int]) -> np.ndarray:
    """Return numbers as tokens of one channel."""
    return np.array(values, np.int64).reshape(-1, 1, 1, 1)


TOTALS = st.lists(st.just(0) | numbers(31), min_size=1, max_size=50)
VARIANCES = st.lists(numbers(61), min_size=1, max_size=50)


@given(TOTALS)
def test_reciprocals(values: list[int]) -> None:
    totals = column(values)
    found = run(lambda graph, x: [*tokens.reciprocal(graph, x, "r")], {"total": totals})
    np.testing.assert_array_equal(found, model.reciprocal(totals))


@given(VARIANCES)
def test_reciprocal_roots(values: list[int]) -> None:
    variances = column(values)
    found = run(lambda graph, x: [*tokens.reciprocal_root(graph, x, "r")], {"variance": variances})
    np.testing.assert_array_equal(found, model.reciprocal_root(variances))


@given(
    st.lists(
        st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(1, 65535), st.integers(1, 32)),
        min_size=1,
        max_size=50,
    )
)
def test_scaled_tokens(values: list[tuple[int, int, int]]) -> None:
    numbers, mantissa, shift = (column(list(part)) for part in zip(*values, strict=True))
    inputs = {"values": numbers, "mantissa": mantissa, "shift": shift}
    (found,) = run(
        lambda graph, x: [tokens.scale_tokens(graph, x, ("mantissa", "shift"), "s")], inputs
    )
    np.testing.assert_array_equal(found, model.scale_tokens(numbers, mantissa, shift))
