"""Vision transformers with a class token, from PyTorch to the RTL."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import nupes
from nupes.examples.pretrained.vit import MNIST, ViT
from nupes.verify import check_layers, check_outputs

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, attention=True)

SMALL = replace(MNIST, image=6, patch=2, channels=2, width=8, depth=2, heads=2, head=4, hidden=12)

ERROR = {"W8A8": 0.003, "W4A4": 0.2}
"""Part of the output's variance that a scheme may add as error."""


@pytest.mark.parametrize(
    ("scheme", "method"), [("W8A8", "rtn"), pytest.param("W4A4", "search", marks=pytest.mark.slow)]
)
def test_vision_transformers_are_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], scheme: str, method: str
) -> None:
    torch.manual_seed(0)
    module = ViT(replace(SMALL, classes=3), 0.4, 0.3).eval()
    x = np.random.default_rng(0).random((64, 2, 6, 6), np.float32)
    network = nupes.quantize(module, scheme, x, method=method)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    assert np.square(network(x) - expected).mean() < ERROR[scheme] * expected.var()
    program, hardware = nupes.compile(network, ARRAY), running(ARRAY)
    check = check_layers(hardware, program, check_outputs(hardware, program, x[:2]), x[:2])
    assert check.exact


def test_behind_the_last_attention_there_is_the_class_token_alone() -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).random((8, 2, 6, 6), np.float32)
    network = nupes.quantize(ViT(SMALL).eval(), "W8A8", x, method="rtn")
    last = {layer.name: layer for layer in network.layers if layer.name.startswith("blocks.1.")}
    heights = {name: layer.output.shape[0] for name, layer in last.items()}
    assert {name for name, height in heights.items() if height > 1} == {
        "blocks.1.norm1", "blocks.1.attention.qkv.key", "blocks.1.attention.qkv.value",
    }  # fmt: skip
    skip = last["blocks.1.attention.out"].residual
    assert skip is not None
    assert (skip.port.first_row, skip.port.rows) == (0, 1)
    assert network.tensors[skip.port.tensor].shape == (10, 1, 8)
