"""A language model of the Llama family, from ids of tokens to the RTL."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import nupes
from nupes.examples.pretrained.llama import Llama, LlamaShape
from nupes.verify import check_layers, check_outputs

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, attention=True, products=True)

SHAPE = LlamaShape(6, width=8, depth=1, heads=2, key_heads=1, hidden=12, words=10)


@pytest.mark.parametrize("scheme", ["W4A4", pytest.param("W8A8", marks=pytest.mark.slow)])
def test_words_are_exact_on_the_rtl(scheme: str, running: Callable[..., nupes.Simulator]) -> None:
    torch.manual_seed(0)
    module = Llama(SHAPE).eval()
    ids = np.random.default_rng(0).integers(0, SHAPE.words, (16, SHAPE.tokens))
    network = nupes.quantize(module, scheme, ids, method="search")
    found = network(ids)
    with torch.no_grad():
        expected = module(torch.from_numpy(ids)).numpy()
    assert found.shape == expected.shape == (16, SHAPE.tokens, SHAPE.words)
    error = np.square(found - expected).mean() / expected.var()
    assert error < {"W8A8": 0.002, "W4A4": 0.1}[scheme]
    changed = ids.copy()
    changed[:, -1] = (ids[:, -1] + 1) % SHAPE.words
    np.testing.assert_array_equal(network(changed)[:, :-1], found[:, :-1])  # causal
    program, hardware = nupes.compile(network, ARRAY), running(ARRAY)
    few = (ids[:2],)
    assert check_layers(hardware, program, check_outputs(hardware, program, few), few).exact
