"""Norms and attention that cannot be captured are refused by name."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.model.errors import UnsupportedError
from nupes.quantizer.frontend.inspection import inspect_module
from nupes.quantizer.frontend.program import export_module, prepare
from nupes.quantizer.frontend.registry import base_name
from nupes.quantizer.frontend.walk import capture


class Made(nn.Module):
    """A function of what a linear layer makes of tokens."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(6, 8), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.linear(x))


def split(x: Tensor, heads: int) -> Tensor:
    """Return the heads of tokens."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def attend(x: Tensor, **options: object) -> Tensor:
    """Return attention of two heads."""
    key = split(x, 2)[..., :4].contiguous()
    y = F.scaled_dot_product_attention(split(x, 2), key, key, **options)  # type: ignore[arg-type]
    return y.transpose(1, 2).flatten(2)


REFUSED = {
    "a norm must be over all 8 channels, in the last dimension, not over the last dimensions "
    "[5, 8]": lambda x: F.layer_norm(x, (5, 8)),
    "a norm must be over all 8 channels, in the last dimension, not over the last dimensions "
    "[5]": lambda x: F.layer_norm(x.transpose(1, 2), (5,)).transpose(1, 2),
    "eps of a norm must be positive, not 0.0": lambda x: F.layer_norm(x, (8,), eps=0.0),
    "dropout must be off; export the module after eval()": lambda x: attend(x, dropout_p=0.5),
    "queries, keys and values must be (batch, heads, tokens, channels), each head some channels of "
    "a sequence of tokens, not a tensor (2, 5, 2, 4) of others": lambda x: (
        F.scaled_dot_product_attention(*[x.unflatten(2, (2, -1))] * 3).flatten(2)
    ),
    "queries must have as many heads as keys and values, or a multiple of them": lambda x: (
        F.scaled_dot_product_attention(split(x[..., :4], 1), *[split(x, 2)] * 2)
        .transpose(1, 2)
        .flatten(2)
    ),
    "both matrices of a product must have one number of heads": lambda x: (
        split(x[..., :5], 1) @ split(x, 2)
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_captured(message: str) -> None:
    program = export_module(Made(REFUSED[message]).eval(), (2, 5, 6))
    with pytest.raises(UnsupportedError) as error:
        capture(program)
    assert message in str(error.value)


class Own(nn.Module):
    """PyTorch's own multi-head attention, with a mask or without."""

    def __init__(self, mask: Tensor | None = None, **options: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, **options)
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, attn_mask=self.mask)[0]


def test_multi_head_attention_is_itself_again_after_the_export() -> None:
    module = Own().eval()
    x = torch.randn(2, 5, 6)
    before = module(x)
    kinds = {node.target for node in export_module(module, (2, 5, 6)).graph.nodes}
    assert torch.ops.aten.scaled_dot_product_attention.default in kinds
    assert "forward" not in vars(module.attention)
    torch.testing.assert_close(module(x), before)


@pytest.mark.parametrize(
    "module",
    [
        Own(torch.arange(100.0).reshape(4, 5, 5)),  # another one for each image
        Own(add_zero_attn=True),
        Own(add_bias_kv=True),
    ],
)
def test_multi_head_attention_with_more_is_refused(module: nn.Module) -> None:
    with pytest.raises(UnsupportedError):
        capture(export_module(module.eval(), (2, 5, 6)))


Parts = Sequence[Tensor]


def by_indexing(x: Tensor) -> Parts:
    parts = x.permute(2, 0, 3, 1, 4)
    return parts[0], parts[1], parts[2]


def by_chunks(x: Tensor) -> Parts:
    q, k, v = x.permute(2, 0, 3, 1, 4).contiguous().chunk(3)
    return q.squeeze(0), k[0], v.squeeze(0).clone()


PARTS: dict[str, Callable[[Tensor], Parts]] = {
    "heads in front": lambda x: x.permute(0, 2, 3, 1, 4).unbind(1),
    "timm": lambda x: x.permute(2, 0, 3, 1, 4).unbind(0),
    "by indexing": by_indexing,
    "by chunks": by_chunks,
    "by two permutations": lambda x: x.permute(3, 1, 2, 0, 4).permute(2, 3, 0, 1, 4).float(),
    "by transpositions": lambda x: [y.transpose(1, 2) for y in x.unbind(2)],
    "back and forth": lambda x: x.transpose(0, 1).transpose(1, 0).permute(2, 0, 3, 1, 4).unbind(0),
}


class Fused(nn.Module):
    """Queries, keys and values of one linear layer, taken apart in some way."""

    def __init__(self, parts: Callable[[Tensor], Parts]) -> None:
        super().__init__()
        self.qkv, self.parts = nn.Linear(6, 24), parts

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.parts(self.qkv(x).unflatten(2, (3, 2, 4)))
        y = F.scaled_dot_product_attention(q, k, v)
        return y.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("name", PARTS)
def test_queries_keys_and_values_in_one_tensor(name: str) -> None:
    torch.manual_seed(0)
    found = inspect_module(Fused(PARTS[name]).eval(), (5, 6))
    assert found.problems == ()
    names = [layer.name for layer in found.layers]
    assert names[:3] == ["qkv.query", "qkv.key", "qkv.value"]
    assert [name for name in names if "mean" in name] == ["attention.mean_0", "attention.mean_1"]


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "heads in front": lambda x: F.layer_norm(x.transpose(1, 2), (4,)).transpose(1, 2),
    "tokens in front": lambda x: F.layer_norm(x, (4,), torch.linspace(1, 2, 4, dtype=x.dtype)),
    "root mean squares": lambda x: F.rms_norm(x.transpose(1, 2), (4,), eps=1e-6).transpose(1, 2),
    "written out": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_of_heads(name: str) -> None:
    torch.manual_seed(0)
    norm = NORMS[name]

    def parts(x: Tensor) -> list[Tensor]:
        q, k, v = x.unbind(2)
        return [y.transpose(1, 2) for y in (norm(q), norm(k), v)]

    found = inspect_module(Fused(parts).eval(), (5, 6))
    assert found.problems == ()
    norms = [layer for layer in found.layers if "norm" in layer.operator]
    assert [layer.output_shape for layer in norms] == [(5, 1, 4)] * 4


def test_what_computes_finds_the_batch_in_dimension_0() -> None:
    found = inspect_module(Made(lambda x: x.transpose(0, 1).relu().transpose(0, 1)).eval(), (5, 6))
    problem = found.problems[0]
    assert problem.operator == "relu"
    assert problem.reason == "its operand must have the batch in dimension 0; move it back before"


def by_hand(x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return attention of two heads written by hand, its scores changed in some way."""
    query = split(x, 2)
    return (change(query @ query.transpose(-2, -1)) @ query).transpose(1, 2).flatten(2)


def test_attention_that_is_written_by_hand_becomes_one_operator() -> None:
    def change(scores: Tensor) -> Tensor:
        return F.dropout((2 * scores / 3).softmax(3), 0.5, training=False)

    exported = export_module(Made(lambda x: by_hand(x, change)).eval(), (2, 5, 6))
    before = [node.target for node in exported.graph.nodes]
    program = prepare(exported)
    assert [node.target for node in exported.graph.nodes] == before
    (node,) = (n for n in program.live() if base_name(n) == "scaled_dot_product_attention")
    assert node.kwargs["scale"] == pytest.approx(2 / 3)
    assert not any(base_name(n) == "softmax" for n in program.live())


@pytest.mark.parametrize(
    "bias",
    [torch.arange(5), torch.arange(5.0)[None], torch.tensor(0.5)],
    ids=["keys", "row", "all"],
)
def test_what_is_added_to_the_scores_of_keys(bias: Tensor) -> None:
    torch.manual_seed(0)
    module = Made(lambda x: by_hand(x, lambda scores: (scores + bias).softmax(3))).eval()
    x = np.random.default_rng(0).normal(size=(16, 5, 6)).astype(np.float32)
    expected = module(torch.from_numpy(x)).detach().numpy()
    found = nupes.quantize(module, "W8A8", x, method="rtn")(x)
    assert ((found - expected) ** 2).mean() < 0.005 * expected.var()


def test_what_is_added_to_scores_is_one_sum() -> None:
    first, second = torch.zeros(5, 5), torch.linspace(-1, 1, 25).view(5, 5)
    module = Made(lambda x: by_hand(x, lambda scores: (second + (scores + first)).softmax(3)))
    assert inspect_module(module.eval(), (5, 6)).problems == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda scores: scores.softmax(2),
        lambda scores: scores,
        lambda scores: (scores + 1).softmax(3),
        lambda scores: F.dropout(scores.softmax(3), 0.5, training=True),
    ],
)
def test_other_products_are_none(change: Callable[[Tensor], Tensor]) -> None:
    program = prepare(export_module(Made(lambda x: by_hand(x, change)).eval(), (2, 5, 6)))
    found = [n for n in program.live() if n.op == "call_function"]
    assert not any(base_name(n) == "scaled_dot_product_attention" for n in found)
