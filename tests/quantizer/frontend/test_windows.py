"""Windows of maps, norms over pixels and products of channels are the module's, however they are
written, and what is moved between them costs no layer."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nupes.model.errors import UnsupportedError
from nupes.quantizer.frontend.graph import Graph
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from tests.quantizer.close import images
from tests.quantizer.frontend.test_liveness import taken
from tests.quantizer.test_operators import Call

MAP = torch.from_numpy(images(2, 6, 4, 6))
TOKENS = torch.from_numpy(images(2, 7, 6))

Cut = Callable[[Tensor], Tensor]


def squares(x: Tensor) -> Tensor:
    """Return the 2 x 2 windows (b * 6, 4, c) of a map (b, 4, 6, c)."""
    parts = x.view(len(x), 2, 2, 3, 2, -1).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(-1, 4, x.shape[-1])


def unsquares(x: Tensor) -> Tensor:
    """Return the map of 2 x 2 windows."""
    parts = x.view(-1, 2, 3, 2, 2, x.shape[-1]).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(-1, 4, 6, x.shape[-1])


def grids(x: Tensor) -> Tensor:
    """Return the 2 x 2 grids (b * 6, 4, c) of pixels that lie two rows and three columns apart."""
    parts = x.view(len(x), 2, 2, 2, 3, -1).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(-1, 4, x.shape[-1])


def ungrids(x: Tensor) -> Tensor:
    """Return the map of 2 x 2 grids."""
    parts = x.view(-1, 2, 3, 2, 2, x.shape[-1]).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape(-1, 4, 6, x.shape[-1])


def heads(s: nn.Module, x: Tensor) -> Tensor:
    """Return queries, keys and values (3, b, 2, t, 4) of tokens (b, t, 8)."""
    return s.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)  # type: ignore[operator]


def attend(s: nn.Module, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return attention of two heads to tokens (b, t, 8)."""
    y = F.scaled_dot_product_attention(*heads(s, x), attn_mask=mask)
    return s.o(y.transpose(1, 2).flatten(2))  # type: ignore[operator]


def by_hand(s: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Return the same, a mask of windows (6, 4, 4) added in a shape of its own."""
    q, k, v = heads(s, x)
    scores = q @ k.transpose(-2, -1) / 2 + s.bias
    scores = (scores.view(-1, 6, 2, 4, 4) + mask[None, :, None]).view(-1, 2, 4, 4)
    return s.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))  # type: ignore[operator]


def cosines(s: nn.Module, x: Tensor) -> Tensor:
    """Return attention by the cosines of queries and keys, times a number of each head."""
    q, k, v = heads(s, x)
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    weights = (scores * s.gain).softmax(-1)
    return s.o((weights @ v).transpose(1, 2).flatten(2))  # type: ignore[operator]


MASK = torch.zeros(6, 4, 4).masked_fill(torch.eye(4, dtype=torch.bool).roll(1, 0), -100.0)
"""Of every window each query has a key that does not count."""


def block(s: nn.Module, x: Tensor, cut: Cut, join: Cut, inner: Cut) -> Tensor:
    """Return a block of a transformer with attention in windows of a map (b, c, h, w)."""
    x = s.e(x.permute(0, 2, 3, 1))  # type: ignore[operator]
    x = x + join(inner(cut(s.n(x))))  # type: ignore[operator]
    return x + s.b(F.gelu(s.a(x)))  # type: ignore[operator]


def rolled(cut: Cut) -> Cut:
    """Return the cut of a rolled map."""
    return lambda x: cut(x.roll((-1, -1), (1, 2)))


def back(join: Cut) -> Cut:
    """Return the map rolled back."""
    return lambda x: join(x).roll((1, 1), (1, 2))


def parts() -> dict[str, nn.Module]:
    """Return the layers of a block."""
    torch.manual_seed(0)
    bias, gain = nn.Parameter(torch.randn(1, 2, 4, 4)), nn.Parameter(torch.rand(2, 1, 1) + 0.5)
    made = {name: nn.Linear(8, 8) for name in "oab"}
    return made | {
        **{"e": nn.Linear(6, 8), "n": nn.LayerNorm(8), "qkv": nn.Linear(8, 24)},
        "bias": bias,  # type: ignore[dict-item]
        "gain": gain,  # type: ignore[dict-item]
    }


class Block(nn.Module):
    """A function of a block's layers and a map or tokens."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        for name, part in parts().items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


WINDOWS = {
    "windows": lambda s, x: block(s, x, squares, unsquares, lambda y: attend(s, y)),
    "biased": lambda s, x: block(s, x, squares, unsquares, lambda y: attend(s, y, s.bias)),
    "rolled": lambda s, x: block(
        s, x, rolled(squares), back(unsquares), lambda y: by_hand(s, y, MASK)
    ),
    "masked": lambda s, x: block(
        s, x, squares, unsquares,
        lambda y: attend(s, y, (s.bias + MASK[:, None]).repeat(2, 1, 1, 1)),
    ),
    "grids": lambda s, x: block(s, x, grids, ungrids, lambda y: attend(s, y)),
    "cosines": lambda s, x: block(s, x, squares, unsquares, lambda y: cosines(s, y)),
    "a gate in windows": lambda s, x: block(
        s, x, squares, unsquares, lambda y: s.a(y) * s.b(y).sigmoid()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name: str) -> None:
    graph = taken(Block(WINDOWS[name]), MAP)
    assert not {"reshape", "view", "roll", "permute", "clone"} & kinds(graph)


def kinds(graph: Graph) -> set[str]:
    """Return the last part of every node's name, without numbers."""
    return {name.split(".")[-1].rstrip("_0123456789") for name in graph.nodes}


def test_patches_with_padding_are_refused() -> None:
    module = Call(lambda s, x: s.t(F.unfold(x, 2, padding=1).mT), t=nn.Linear(24, 5))
    with pytest.raises(UnsupportedError, match=r"im2col\.default in the top module is not"):
        capture(export_module(module, MAP.shape))


def test_queries_that_all_windows_share() -> None:
    def shared(s: nn.Module, x: Tensor) -> Tensor:
        x = s.e(x.permute(0, 2, 3, 1))  # type: ignore[operator]
        query = heads(s, x[:, :2, :2].flatten(1, 2))[0]
        _, key, value = heads(s, squares(x))
        y = F.scaled_dot_product_attention(query.repeat_interleave(6, 0), key, value)
        return s.o(unsquares(y.transpose(1, 2).flatten(2)))  # type: ignore[operator]

    taken(Block(shared), MAP)


def turned(x: Tensor) -> Tensor:
    """Return matrices transposed."""
    return x.transpose(-2, -1)


def channel_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return attention of channels to channels, by cosines over all tokens."""
    q, k = F.normalize(turned(q), dim=-1), F.normalize(turned(k), dim=-1)
    return turned((q @ turned(k)).softmax(-1) @ turned(v))


PRODUCTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "channels": channel_attention,
    "channels in one operator": lambda q, k, v: turned(
        F.scaled_dot_product_attention(turned(q), turned(k), turned(v))
    ),
    "weights turned": lambda q, k, v: turned(turned(v) @ turned((q @ turned(k)).softmax(-1))),
    "linear": lambda q, k, v: q.relu() @ (turned(k.relu()) @ v),
    "linear, values turned": lambda q, k, v: turned((turned(v) @ k.relu()) @ turned(q.relu())),
    "linear, both turned": lambda q, k, v: turned(turned(v) @ turned(k @ turned(q))),
    "weights last": lambda q, k, v: turned(turned(v) @ (k.relu() @ turned(q.relu()))),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_heads(name: str) -> None:
    def forward(s: nn.Module, x: Tensor) -> Tensor:
        y = PRODUCTS[name](*heads(s, s.e(x)))  # type: ignore[operator]
        return s.o(y.transpose(1, 2).flatten(2))  # type: ignore[operator]

    taken(Block(forward), TOKENS)


NORMS = {
    "groups of channels": lambda s, x: F.group_norm(s.c(x), 2, s.g, s.h),
    "one group": lambda s, x: F.group_norm(s.c(x), 1, s.g, s.h),
    "each channel": lambda s, x: F.group_norm(s.c(x), 8),
    "instances": lambda s, x: F.instance_norm(s.c(x), weight=s.g, bias=s.h),
    "of a sequence": lambda s, x: F.group_norm(s.c(x).flatten(2), 4),
    "length 1 of pixels": lambda s, x: F.normalize(s.c(x).flatten(2), dim=2),
    "length 1 of some pixels": lambda s, x: F.normalize(s.c(x)[:, 2:5].flatten(2), dim=2),
    "length 1 of channels": lambda s, x: F.normalize(s.c(x), dim=1),
    "length 1 of heads": lambda s, x: F.normalize(s.c(x).view(-1, 2, 4, 24), dim=2).flatten(1, 2),
    "mixed tokens": lambda s, x: s.t(s.c(x).flatten(2)),
    "mixed tokens of a transposed map": lambda s, x: s.t(s.c(x).transpose(2, 3).flatten(2)),
    "outer product": lambda s, x: s.c(x)[:, :1] * s.c(x).mean((2, 3), keepdim=True),
    "sums of heads": lambda s, x: (
        s.c(x).view(-1, 2, 4, 24) * s.c(x).view(-1, 2, 4, 24).sum(3, keepdim=True)
    ).flatten(1, 2),
    "tokens as a map": lambda s, x: s.c(
        s.d(x.flatten(2).transpose(1, 2)).transpose(1, 2)[:, :, :20].reshape(-1, 6, 2, 10)
    ),
    "a window on the pixels of a map": lambda s, x: F.avg_pool1d(s.c(x).flatten(2), 4),
    "a convolution over the pixels of a map": lambda s, x: s.l(x.flatten(2)),
    "heads of a map and of tokens": lambda s, x: (
        (
            s.c(x).view(-1, 2, 4, 24).mT
            * torch.cat([s.d(x.flatten(2).mT)[:, :1], s.d(x.flatten(2).mT)], 1)
            .repeat(1, 1, 2)[:, 1:, :8]
            .unflatten(2, (2, 4))
            .transpose(1, 2)
        )
        .transpose(1, 2)
        .flatten(2)
    ),
    "patches": lambda s, x: s.t(F.unfold(x, 2, stride=2).mT),
    "patches that overlap": lambda s, x: s.t(F.unfold(x, 2).mT),
    "normed patches": lambda s, x: s.t(s.m(F.unfold(x, 2, stride=2).mT)),
    "no padding of a rolled map": lambda s, x: s.c(F.pad(x.roll(1, 2), (0, 0, 0, 0))),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_over_pixels_and_mixed_tokens(name: str) -> None:
    torch.manual_seed(0)
    layers = {"c": nn.Conv2d(6, 8, 1), "t": nn.Linear(24, 5), "d": nn.Linear(6, 6)}
    layers |= {"l": nn.Conv1d(6, 4, 3), "m": nn.LayerNorm(24)}
    held = {name: nn.Parameter(torch.rand(8) + 0.5) for name in "gh"}
    taken(Call(NORMS[name], **layers, **held), MAP)  # type: ignore[arg-type]


REFUSED = {
    "rows of length 1 must be channels of a pixel, or all pixels of a channel, not others": (
        lambda s, x: F.normalize(s.c(x), dim=2)
    ),
    "eps of a norm must be positive, not 0.0": lambda s, x: F.group_norm(s.c(x), 2, eps=0.0),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(reason: str) -> None:
    module = Call(REFUSED[reason], c=nn.Conv2d(6, 8, 1))
    with pytest.raises(UnsupportedError) as caught:
        capture(export_module(module, MAP.shape))
    assert reason in str(caught.value)


def test_windows_that_leave_pixels_out() -> None:
    def forward(s: nn.Module, x: Tensor) -> Tensor:
        x = s.e(x.permute(0, 2, 3, 1))  # type: ignore[operator]
        q, k, v = heads(s, squares(x)).unflatten(1, (2, 6))[:, :, :5]
        return F.scaled_dot_product_attention(q, k, v).transpose(2, 3).flatten(3)

    with pytest.raises(UnsupportedError, match="windows of queries must be all pixels of a map"):
        capture(export_module(Block(forward), MAP.shape))


def unrolled(x: Tensor) -> Tensor:
    """Return the pixels of a map (b, 4, 8, c) as tokens: those of 2 x 2 pixels far apart, those of
    these within 4 x 4 as well, and the two windows next to each other."""
    x = x.view(len(x), 2, 2, 4, 2, -1).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(-1, 2, 2, 1, 2, 2, 2, 8).permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(-1, 32, 8)


def unit_heads(s: nn.Module, x: Tensor) -> Tensor:
    """Return queries, keys and values (3, b, 2, 2, 16, 4) of tokens in two windows."""
    return s.qkv(x).reshape(len(x), 16, 2, 3, 2, 4).permute(3, 0, 4, 2, 1, 5)  # type: ignore[operator]


def in_units(s: nn.Module, x: Tensor) -> Tensor:
    """Return attention in windows whose tokens are in no raster order."""
    y = F.scaled_dot_product_attention(*unit_heads(s, x))
    return x + s.o(y.transpose(1, 3).flatten(3).flatten(1, 2))  # type: ignore[operator]


def pooled(s: nn.Module, x: Tensor) -> Tensor:
    """Return the same of the largest queries of 2 x 2 pixels, beside the smallest of all."""
    q, k, v = unit_heads(s, x)
    q = q.view(len(x), 2, 2, 4, 4, 4)
    y = F.scaled_dot_product_attention(q.amax(3) + q.amin(3), k, v)
    return s.o(y.transpose(1, 3).flatten(3).flatten(1, 2))  # type: ignore[operator]


ORDERS = {
    "windows": in_units,
    "pooled windows": pooled,
    "both": lambda s, x: pooled(s, in_units(s, x)),
    "all tokens": lambda s, x: x + attend(s, x),
}


@pytest.mark.parametrize("name", ORDERS)
def test_tokens_in_any_order(name: str) -> None:
    def forward(s: nn.Module, x: Tensor) -> Tensor:
        tokens = unrolled(s.e(x.permute(0, 2, 3, 1)))  # type: ignore[operator]
        return s.b(ORDERS[name](s, s.n(tokens))).mean(1)  # type: ignore[operator]

    taken(Block(forward), torch.from_numpy(images(2, 6, 4, 8)))


def test_masks_of_tokens_in_another_order_are_refused() -> None:
    def forward(s: nn.Module, x: Tensor) -> Tensor:
        tokens = unrolled(s.e(x.permute(0, 2, 3, 1)))  # type: ignore[operator]
        return F.scaled_dot_product_attention(*unit_heads(s, tokens), is_causal=True)

    with pytest.raises(UnsupportedError, match="the tokens of a head must be rows and columns"):
        capture(export_module(Block(forward), (2, 6, 4, 8)))
