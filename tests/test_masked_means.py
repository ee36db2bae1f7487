"""Means of the tokens that count, as sentence encoders write them, from PyTorch to the RTL, a file
and ONNX."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.quantizer.frontend.program import export_module, prepare
from nupes.quantizer.frontend.registry import base_name
from nupes.verify import check_layers, check_outputs
from tests.test_tokens import ARRAY, TOKENS, WORDS

Pool = Callable[[Tensor, Tensor], Tensor]


def by_products(x: Tensor, mask: Tensor) -> Tensor:
    expanded = mask.unsqueeze(-1).expand(x.size()).float()
    return torch.sum(x * expanded, 1) / torch.clamp(expanded.sum(1), min=1e-9)


def by_counts(x: Tensor, mask: Tensor) -> Tensor:
    return (mask[..., None] * x).sum(1) / mask.sum(1, keepdim=True)


def by_filling(x: Tensor, mask: Tensor) -> Tensor:
    return x.masked_fill(~mask[..., None].bool(), 0.0).sum(dim=1) / mask.sum(dim=1)[..., None]


def by_choice(x: Tensor, mask: Tensor) -> Tensor:
    count = mask.sum(1, keepdim=True) + 1e-6
    return torch.where(mask[..., None] > 0, x, 0.0).sum(1) / count


def by_kept_sums(x: Tensor, mask: Tensor) -> Tensor:
    expanded = mask[..., None].expand(x.size()).float()
    return ((expanded * x).sum(1, keepdim=True) / expanded.sum(1, keepdim=True))[:, 0]


def by_reciprocals(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask[..., None]).sum(1) * (1 / mask.sum(1, keepdim=True))


def by_powers(x: Tensor, mask: Tensor) -> Tensor:
    return mask.sum(1, keepdim=True).float().pow(-1) * (x * mask[..., None]).sum(1)


POOLS = {
    "reciprocals": by_reciprocals,
    "powers": by_powers,
    "products": by_products,
    "counts": by_counts,
    "filling": by_filling,
    "choice": by_choice,
    "kept sums": by_kept_sums,
}


class Sentences(nn.Module):
    """Words through a block, whose attention may be masked, and their mean."""

    def __init__(self, pool: Pool, masked: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.masked, self.pool = nn.Embedding(WORDS, 8), masked, pool
        self.block = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids)
        x = self.block(x, src_key_padding_mask=mask == 0) if self.masked else F.gelu(x)
        return self.head(self.pool(x, mask))


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Return ids, and masks of any length."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, TOKENS + 1, (48, 1))
    return rng.integers(0, WORDS, (48, TOKENS)), (np.arange(TOKENS) < lengths).astype(np.int64)


def quantized(module: nn.Module, data: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return what the integer network gives, near the module."""
    network = nupes.quantize(module.eval(), "W8A8", data, method="rtn")
    assert [layer.op.kind for layer in network.layers].count("weighted_mean") in (1, 3)
    with torch.no_grad():
        expected = module(*map(torch.from_numpy, data)).numpy()
    found = network(*data)
    assert np.square(found - expected).mean() < 0.01 * expected.var()
    return found


@pytest.mark.slow
def test_every_way_of_writing_it(data: tuple[np.ndarray, np.ndarray]) -> None:
    first, *others = (quantized(Sentences(pool), data) for pool in POOLS.values())
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("masked", [True, False])
def test_every_value_on_the_rtl(
    running: Callable[..., nupes.Simulator],
    tmp_path: Path,
    data: tuple[np.ndarray, np.ndarray],
    masked: bool,
) -> None:
    module = Sentences(by_products, masked).eval()
    network = nupes.quantize(module, "W4A4", data, method="search")
    program, hardware = nupes.compile(network, ARRAY), running(ARRAY)
    few = tuple(part[:3] for part in data)
    assert check_layers(hardware, program, check_outputs(hardware, program, few), few).exact
    lengths = network(*data[:1], np.ones_like(data[1]))
    assert not np.array_equal(lengths, network(*data))
    loaded = nupes.load(network.save(tmp_path / "sentences.safetensors"))
    np.testing.assert_array_equal(loaded(*data), network(*data))


def test_a_sentence_without_tokens_has_a_mean_of_zero(data: tuple[np.ndarray, np.ndarray]) -> None:
    module = Sentences(by_products, masked=False).eval()
    network = nupes.quantize(module, "W8A8", data, method="rtn")
    ids, mask = data[0][:2], np.zeros_like(data[1][:2])
    with torch.no_grad():
        expected = module.head(torch.zeros(2, 8)).numpy()
    np.testing.assert_allclose(network(ids, mask), expected, atol=0.05)


OTHERS: dict[str, Pool] = {
    "of all tokens": lambda x, mask: (x * mask[..., None]).sum(1) / (TOKENS + 0 * mask[:, :1]),
    "of twice the tokens": lambda x, mask: (x * mask[..., None] * 2).sum(1) / mask.sum(1, True),
    "of those left out": lambda x, mask: (x * (1 - mask[..., None])).sum(1) / mask.sum(1, True),
    "of constants": lambda x, mask: (
        x.mean(1) + (mask[..., None] * torch.ones(TOKENS, 8)).sum(1) / mask.sum(1, keepdim=True)
    ),
    "of more tokens": lambda x, mask: (x * mask[..., None]).sum(1) / (mask.sum(1, True) + 1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_not_means(name: str) -> None:
    exported = export_module(
        Sentences(OTHERS[name]).eval(), (2, TOKENS), (2, TOKENS), integers=[True, True]
    )
    kinds = {base_name(node) for node in prepare(exported).live() if node.op == "call_function"}
    assert "masked_mean" not in kinds
