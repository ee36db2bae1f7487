"""Ways to write operators on sequences (b, c, t) and tokens (b, t, c), and permutations between."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.quantizer.frontend.function_forms import Form


def line(y: Tensor) -> Tensor:
    """Return the means of the rows of a map (b, c, h, w), a sequence (b, c, w)."""
    return F.avg_pool2d(y, (8, 1)).squeeze(2)


def column(y: Tensor) -> Tensor:
    """Return the means of the columns, tokens (b, h, c)."""
    return F.avg_pool2d(y, (1, 7)).squeeze(3).transpose(1, 2)


def pixels(y: Tensor) -> Tensor:
    """Return the pixels as tokens (b, h * w, c)."""
    return y.flatten(2).transpose(1, 2)


def blocks(y: Tensor) -> Tensor:
    """Return 2 x 2 blocks (b, 2, 2, 27) of 3 x 3 pixels, three channels of each."""
    parts = y[:, 1:4, 1:7, :6].reshape(len(y), 3, 2, 3, 2, 3)
    return parts.permute(0, 2, 4, 3, 5, 1).flatten(3)


def gate(s: nn.Module, y: Tensor) -> Tensor:
    """Return a sequence times a number for each channel."""
    factor = s.tokens(y.mean(-1)).sigmoid()  # type: ignore[operator]
    return factor.unsqueeze(-1) * s.lines(F.pad(y, (1, 1)))  # type: ignore[operator]


def channels(y: Tensor, kernel: Tensor, pad: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Return a convolution over the means of channels, one after another (b, 1, c)."""
    means = y.mean((2, 3)).unsqueeze(1)
    return F.conv1d(means, kernel, padding=1) if pad is None else F.conv1d(pad(means), kernel)


SEQUENCES: dict[str, Form] = {
    "conv": lambda s, y: s.line(line(y)),
    "conv on tokens": lambda s, y: s.lines(column(y).transpose(1, 2)),
    "conv functional": lambda s, y: F.conv1d(line(y), s.kernel[:, :, 0], s.row[:4], 2, 1),
    "conv dilated": lambda s, y: F.conv1d(line(y), s.kernel[:, :, 0], dilation=2, padding=2),
    "conv same": lambda s, y: F.conv1d(line(y), s.kernel[:, :, 0], padding="same", dilation=2),
    "conv valid": lambda s, y: F.conv1d(line(y), s.kernel[:, :, 0], padding="valid"),
    "conv groups": lambda s, y: s.lines(F.relu(s.line(line(y)))),
    "norm": lambda s, y: s.norm(s.line(line(y))),
    "norm of a vector": lambda s, y: s.norm(y.mean((2, 3))),
    "causal": lambda s, y: s.line(F.pad(line(y), (2, 0))),
    "max pool": lambda s, y: F.max_pool1d(line(y), 3, 2, 1),
    "max pool ceil": lambda s, y: F.max_pool1d(line(y), 2, ceil_mode=True),
    "average pool": lambda s, y: F.avg_pool1d(line(y), 3, 2),
    "average pool padded": lambda s, y: F.avg_pool1d(line(y), 3, 2, 1),
    "adaptive pool": lambda s, y: F.adaptive_avg_pool1d(line(y), 1).flatten(1),
    "adaptive max pool": lambda s, y: F.adaptive_max_pool1d(line(y), 7),
    "mean": lambda s, y: s.line(line(y)).mean(2),
    "largest": lambda s, y: line(y).amax(-1, keepdim=True),
    "sum of sequences": lambda s, y: F.relu(line(y)) + s.norm(line(y)),
    "concatenation": lambda s, y: torch.cat([line(y), s.norm(line(y))], 1),
    "prelu": lambda s, y: F.prelu(s.line(line(y)), s.row),
    "channel constant": lambda s, y: line(y) * s.row[:, None] + s.row[None, :, None],
    "tokens": lambda s, y: s.tokens(column(y)),
    "tokens of pixels": lambda s, y: F.gelu(s.tokens(pixels(y))),
    "tokens by permute": lambda s, y: s.tokens(y.permute(0, 2, 3, 1)),
    "tokens and back": lambda s, y: s.tokens(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "tokens by mT": lambda s, y: s.tokens(y.flatten(2).mT).mT,
    "tokens by swapaxes": lambda s, y: s.tokens(y.flatten(2).swapaxes(-1, 1)).relu(),
    "tokens to a map": lambda s, y: s.tokens(pixels(y)).transpose(1, 2).reshape(2, 4, 8, 7),
    "tokens matmul": lambda s, y: torch.matmul(pixels(y), s.kernel[0, :, 0]),
    "rows as tokens": lambda s, y: F.linear(y.permute(0, 2, 3, 1).flatten(2), s.table[:, :42]),
    "columns of rows as tokens": lambda s, y: F.linear(
        y.transpose(1, 3).reshape(-1, 7, 48), s.table[:, 48:96]
    ),
    "norm of rows": lambda s, y: F.layer_norm(y.transpose(1, 2).flatten(2), (42,)),
    "vector as tokens": lambda s, y: s.tokens(
        F.linear(y.flatten(1), s.table[:, :336].repeat(6, 1)).view(-1, 5, 6)
    ),
    "tokens of windows": lambda s, y: s.tokens(
        y[..., :6].reshape(-1, 6, 4, 2, 6).permute(0, 2, 3, 4, 1)
    ).flatten(1, 3),
    "mean of tokens": lambda s, y: s.tokens(pixels(y)).mean(1),
    "mean of tokens kept": lambda s, y: s.tokens(pixels(y).mean(dim=1, keepdim=True)),
    "tokens as one vector": lambda s, y: F.linear(column(y).flatten(1), s.table[:, :48]),
    "tokens with a constant": lambda s, y: s.tokens(pixels(y) * s.row + s.row.view(1, 1, 6)),
    "patches": lambda s, y: F.linear(
        y.unflatten(2, (4, 2)).permute(0, 2, 1, 3, 4).flatten(2), s.table[:, :84]
    ),
    "patches of a crop": lambda s, y: F.linear(blocks(y).flatten(1, 2), s.table[:, :27]),
    "a map of patches": lambda s, y: F.linear(blocks(y), s.table[:, :27], s.row[:5]).relu(),
    "class token": lambda s, y: s.tokens(
        torch.cat([s.row.expand(len(y), 1, 6), column(y)], 1)
        + torch.linspace(-1, 1, 9, dtype=y.dtype)[:, None]
    ),
    "class token of pixels": lambda s, y: torch.cat([s.row.expand(len(y), 1, 6), pixels(y)], 1),
    "class token last": lambda s, y: torch.cat(
        [column(y), torch.zeros(2, 2, 6, dtype=y.dtype)], -2
    )[:, 1:],
    "tokens around a constant token": lambda s, y: torch.cat(
        [column(y), torch.ones(2, 1, 6, dtype=y.dtype), pixels(y)], 1
    ),
    "sequence after a sequence": lambda s, y: torch.cat([line(y), s.line(line(y))], 2),
    "norm of one token": lambda s, y: F.layer_norm(column(y)[:, 3], (6,)),
    "tokens side by side": lambda s, y: torch.cat([column(y), column(y).relu()], dim=-1),
    "tokens after tokens": lambda s, y: s.tokens(torch.cat([column(y), pixels(y)], 1)),
    "tokens after a class token": lambda s, y: torch.cat(
        [s.row.expand(2, 1, 6), s.norm(pixels(y).mT).mT], dim=-2
    ),
    "sequences one after another": lambda s, y: s.line(torch.cat((line(y), line(y.relu())), 2)),
    "pixels one after another": lambda s, y: torch.cat(
        [y.flatten(2), y.mean((2, 3))[..., None]], 2
    ),
    "heads of a detector": lambda s, y: torch.cat(
        [part.permute(0, 2, 3, 1).reshape(2, -1, 2) for part in (s.d(y), y[:, :, ::2, :3])], 1
    ),
    "pixels beside pixels": lambda s, y: s.tokens(
        torch.cat([y.permute(0, 2, 3, 1), y.relu().permute(0, 2, 3, 1)[:, :, :2]], 2)
    ),
    "stacked tokens": lambda s, y: torch.stack([column(y), column(y).relu()], 2).sum(2),
    "tokens by turns": lambda s, y: s.tokens(
        torch.stack([column(y), column(y).relu()], 2).flatten(1, 2)
    ),
    "sum of tokens": lambda s, y: s.tokens(pixels(y)).sum(1),
    "sum of channels of tokens": lambda s, y: column(y).sum(-1, keepdim=True),
    "stacked vectors": lambda s, y: s.tokens(torch.stack([y.mean((2, 3)), y.amax((2, 3))], 1)),
    "gated unit of tokens": lambda s, y: s.tokens(F.glu(column(torch.cat([y, s.d(y)], 1)), -1)),
    "gated unit of a sequence": lambda s, y: F.glu(s.line(line(y)), dim=1),
    "larger one of tokens": lambda s, y: torch.maximum(column(y), s.norm(column(y).mT).mT),
    "tokens with a gate": lambda s, y: column(y) * torch.sigmoid(column(y.relu())),
    "halves of tokens": lambda s, y: torch.mul(*column(y).chunk(2, -1)),
    "parts of tokens": lambda s, y: s.tokens(column(y)[:, 1:6]),
    "every other pixel": lambda s, y: s.tokens(y.permute(0, 2, 3, 1)[:, ::2, 1:]),
    "channels of pixels": lambda s, y: torch.tanh(y.permute(0, 2, 3, 1)[..., [4, 0, 1]]),
    "pixels in another order": lambda s, y: s.tokens(pixels(y).flip(2)),
    "part of a sequence": lambda s, y: s.line(line(y)[:, :, 1:6]),
    "sequence in another order": lambda s, y: s.line(line(y).flip(1)),
    "row of a map": lambda s, y: s.line(y[:, :, 2]),
    "column of a map": lambda s, y: s.line(y[..., 3]).transpose(1, 2),
    "flat map with a constant": lambda s, y: y.flatten(1) * s.row.repeat_interleave(56),
    "flat pixels": lambda s, y: s.linear(F.dropout(pixels(y).flatten(1), 0.5, False)),
    "gate expanded": lambda s, y: line(y) * y.mean((2, 3)).sigmoid()[:, :, None].expand(-1, -1, 7),
    "conv transposed": lambda s, y: F.conv_transpose1d(line(y), s.kernel[0], s.row[:3], 2, 1, 1),
    "conv transposed in groups": lambda s, y: F.conv_transpose1d(
        column(y).transpose(1, 2), s.kernel[0, :, :2], None, 3, 0, 0, 2, 2
    ),
    "upsampled": lambda s, y: s.line(F.interpolate(line(y), scale_factor=2)),
    "upsampled exactly": lambda s, y: F.interpolate(line(y), 10, mode="nearest-exact"),
    "reflecting pad": lambda s, y: s.line(F.pad(line(y), (2, 1), mode="reflect")),
    "circular pad": lambda s, y: s.line(F.pad(line(y), (1, 1), mode="circular")),
    "average pool ceil": lambda s, y: F.avg_pool1d(line(y), 2, 2, 0, True),
    "average pool of the inside": lambda s, y: F.avg_pool1d(line(y), 3, 2, 1, False, False),
    "adaptive pool to any size": lambda s, y: F.adaptive_avg_pool1d(line(y), 3),
    "adaptive pool that repeats": lambda s, y: F.adaptive_avg_pool1d(line(y)[:, :, :3], 7),
    "adaptive max pool to any size": lambda s, y: F.adaptive_max_pool1d(line(y), 3),
    "means of rows": lambda s, y: s.line(y.mean(2)),
    "means of columns": lambda s, y: s.tokens(y.mean(3).mT),
    "mean of channels": lambda s, y: torch.relu(y.mean(1)),
    "mean of all but columns": lambda s, y: y.mean((1, 2)),
    "means of pixels": lambda s, y: s.tokens(y.permute(0, 2, 3, 1).mean(1)),
    "means of channels of tokens": lambda s, y: pixels(y) * pixels(y).mean(2, keepdim=True),
    "sum with a token": lambda s, y: s.tokens(pixels(y) + pixels(y).mean(1, keepdim=True)),
    "positions": lambda s, y: s.tokens(
        pixels(y) + torch.linspace(-1, 1, 336, dtype=y.dtype).view(1, 56, 6)
    ),
    "sequence with a constant": lambda s, y: s.line(
        line(y) * torch.linspace(1, 2, 7, dtype=y.dtype)
    ),
    "padded tokens": lambda s, y: s.tokens(F.pad(column(y), (0, 0, 1, 2))),
    "padded channels of tokens": lambda s, y: F.pad(column(y), (2, 1)).relu(),
    "padded pixels": lambda s, y: s.tokens(F.pad(y.permute(0, 2, 3, 1), (0, 0, 1, 0, 0, 2))),
    "cropped tokens": lambda s, y: s.tokens(F.pad(column(y), (0, 0, -1, -2))),
    "largest of channels of tokens": lambda s, y: pixels(y).amax(-1, keepdim=True),
    "tokens with a constant beside": lambda s, y: torch.cat(
        [column(y), torch.linspace(0, 1, 8).view(1, 8, 1).expand(2, 8, 1)], 2
    ),
    "largest of rows": lambda s, y: s.tokens(y.permute(0, 2, 3, 1).amax(2)),
    "tokens one after another": lambda s, y: column(y).flatten(1),
    "rows and columns": lambda s, y: s.c(y.transpose(2, 3)),
    "flipped tokens": lambda s, y: s.tokens(column(y).flip(1)),
    "repeated tokens": lambda s, y: s.tokens(column(y).repeat_interleave(2, 1)),
    "gate": lambda s, y: gate(s, line(y)),
    "conv over channels": lambda s, y: y * channels(y, s.band).sigmoid().view(2, 6, 1, 1),
    "conv over circled channels": lambda s, y: channels(
        y, s.band, lambda v: F.pad(v, (1, 1), "circular")
    ).flatten(1),
    "conv over channels in two rows": lambda s, y: F.conv1d(
        y.amax((2, 3)).view(2, 2, 3), s.band.expand(3, 2, 3), s.row[:3], padding="same"
    ).view(2, 9),
}
