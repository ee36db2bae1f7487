"""A sentence encoder with lengths given at run time, from PyTorch to the RTL."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import nupes
from nupes.examples.pretrained.minilm import Bert, BertShape
from nupes.verify import check_layers, check_outputs

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, attention=True)

SHAPE = BertShape(6, width=8, depth=2, heads=2, hidden=12)

ERROR = {"W8A8": 0.003, "W4A4": 0.2}
"""Part of the outputs' variance that a scheme may add as error."""


@pytest.mark.parametrize(
    ("scheme", "method"), [("W8A8", "rtn"), pytest.param("W4A4", "search", marks=pytest.mark.slow)]
)
def test_sentences_of_all_lengths_are_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], scheme: str, method: str
) -> None:
    torch.manual_seed(0)
    module, tokens = Bert(SHAPE).eval(), SHAPE.tokens
    words = np.random.default_rng(0).normal(size=(60, tokens, SHAPE.width)).astype(np.float32)
    mask = np.tile(np.tri(tokens, dtype=np.float32), (10, 1))
    x = words, mask, mask / mask.sum(1, keepdims=True)
    network = nupes.quantize(module, scheme, x, method=method)
    with torch.no_grad():
        expected = module(*map(torch.from_numpy, x)).numpy()
    assert np.square(network(*x) - expected).mean() < ERROR[scheme] * expected.var()
    program, hardware = nupes.compile(network, ARRAY), running(ARRAY)
    few = tuple(part[:tokens] for part in x)
    assert check_layers(hardware, program, check_outputs(hardware, program, few), few).exact
