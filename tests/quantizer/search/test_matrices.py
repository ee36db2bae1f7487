"""Codes of what stands where weights do: signed, and within their range."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.options.recipe import make_recipe
from nupes.quantizer.pipeline import capture_network
from nupes.quantizer.search.matrices import choose_matrix, matrix_roots
from nupes.quantizer.stages.joins import join_tensors
from tests.test_attention import Encoder


@settings(max_examples=20)
@given(st.integers(2, 8), st.sampled_from(["power", "uniform"]), st.integers(0, 1000))
def test_levels_are_those_of_weights(bits: int, family: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=500) * 10.0 ** rng.integers(-6, 6) + rng.normal()
    recipe = replace(make_recipe("rtn", None, None), family=family)
    code = choose_matrix(values, bits, recipe)
    assert code.codebook.is_weight
    assert code.codebook.bits == bits
    rounded = code.codebook.levels[code.codebook.nearest(values / code.scale)] * code.scale
    assert np.square(rounded - values).mean() == pytest.approx(code.error, rel=1e-3)
    assert code.error < np.square(values).mean()


def test_values_of_0_have_a_code() -> None:
    code = choose_matrix(np.zeros(9), 4, make_recipe("rtn", None, None))
    assert code.scale > 0
    assert code.error == 0


def test_keys_and_values_are_found_where_they_are_stored() -> None:
    """Queries come from the same linear layer, but have codes of their own."""
    network, _, _ = capture_network(Encoder().eval(), Batch((torch.randn(2, 5, 6),)))
    root = join_tensors(network).root
    found = matrix_roots(network)
    projections = (f"blocks.{i}.attention.project" for i in range(2))
    assert found == {root[f"{name}.{part}"] for name in projections for part in ("key", "value")}
