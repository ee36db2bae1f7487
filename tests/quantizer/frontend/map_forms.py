"""Forms of operators over maps: pools of any windows, means, upsampling, paddings."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MAPS"]

MAPS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "average uncounted": lambda s, y: F.avg_pool2d(y, 3, 2, 1, count_include_pad=False),
    "average uncounted ceil": lambda s, y: F.avg_pool2d(
        y, 3, 2, 1, ceil_mode=True, count_include_pad=False
    ),
    "average ceil beyond": lambda s, y: F.avg_pool2d(y, 2, ceil_mode=True),
    "average ceil counted": lambda s, y: F.avg_pool2d(y, 3, 2, 1, ceil_mode=True),
    "average of padded": lambda s, y: F.avg_pool2d(
        F.pad(y, (1, 0, 2, 0)), 3, 2, 1, count_include_pad=False
    ),
    "adaptive uneven": lambda s, y: F.adaptive_avg_pool2d(y, 3),
    "adaptive larger": lambda s, y: F.adaptive_avg_pool2d(y, (10, 7)),
    "adaptive overlapping": lambda s, y: F.adaptive_avg_pool2d(y, (5, 4)),
    "max adaptive uneven": lambda s, y: F.adaptive_max_pool2d(y, (3, 5)),
    "mean of rows": lambda s, y: y.mean(2, keepdim=True),
    "mean of columns": lambda s, y: y.mean(-1, keepdim=True),
    "mean of channels": lambda s, y: y.mean(1, keepdim=True),
    "mean of all": lambda s, y: y.mean((1, 2, 3), keepdim=True),
    "mean of a row of channels": lambda s, y: y.mean((1, 3), keepdim=True),
    "sum of pixels": lambda s, y: y.sum((2, 3)),
    "sum of rows": lambda s, y: y.sum(2, keepdim=True),
    "sum of channels": lambda s, y: y.sum(dim=1, keepdim=True) * y,
    "sum of channels by groups": lambda s, y: y.view(2, 2, 3, 8, 7).sum(1),
    "mean of channels by groups": lambda s, y: y.view(2, 2, 3, 8, 7).mean(2),
    "means of pixels by groups": lambda s, y: y.mean((2, 3)).view(2, 3, 2).mean(2),
    "stack and sum": lambda s, y: torch.stack([y, s.d(y), s.n(y)], 1).sum(dim=1),
    "stack and mean": lambda s, y: torch.stack([y, s.d(y)], dim=2).mean(2),
    "stack of channels by turns": lambda s, y: torch.stack([y, s.d(y)], 2).flatten(1, 2),
    "stack of one": lambda s, y: torch.stack([y.relu()], -1).squeeze(-1),
    "stack with a constant": lambda s, y: torch.stack(
        [s.row.view(1, 6, 1, 1).expand(2, 6, 8, 7), y], 1
    ).sum(1),
    "selective kernel": lambda s, y: selective(torch.stack([y, s.d(y)], 1)),
    "split attention": lambda s, y: split_attention(torch.cat([y, s.d(y)], 1)),
    "softmax of two channels": lambda s, y: s.d(y)[:, 1:3].softmax(1),
    "softmax of pairs": lambda s, y: F.softmax(y.view(2, 3, 2, 8, 7), 2).flatten(1, 2),
    "maximum": lambda s, y: torch.maximum(y, s.d(y)),
    "minimum": lambda s, y: torch.minimum(s.d(y), torch.relu(s.n(y))).relu(),
    "maximum of functions": lambda s, y: torch.maximum(y, 0.1 * y),
    "max of two": lambda s, y: torch.max(y.mean((2, 3)), y.amax((2, 3))),
    "maxout": lambda s, y: y.view(2, 3, 2, 8, 7).amax(2),
    "maxout of halves": lambda s, y: y.view(2, 2, 3, 8, 7).max(1)[0],
    "least of a stack": lambda s, y: torch.stack([y, s.d(y), s.n(y)], 1).amin(1),
    "gated unit": lambda s, y: F.glu(s.d(y), 1),
    "flat maps together": lambda s, y: torch.cat(
        [F.avg_pool2d(y, 2).flatten(1), y.mean((2, 3)), y[:, :2].flatten(1)], 1
    ),
    "rows below rows": lambda s, y: torch.cat([y, s.d(y).relu()], 2),
    "columns beside columns": lambda s, y: s.c(torch.cat((y, y[..., :3], y.relu()), -1)),
    "rows of a constant": lambda s, y: torch.cat([s.row.view(1, 6, 1, 1).expand(2, 6, 2, 7), y], 2),
    "amax of rows": lambda s, y: y.amax(2, keepdim=True),
    "amax of channels": lambda s, y: y.amax(1, keepdim=True),
    "amax of all": lambda s, y: y.amax((1, 2, 3), keepdim=True),
    "amin of pixels": lambda s, y: y.amin((2, 3)),
    "amin of channels": lambda s, y: s.c(y) * y.amin(1, keepdim=True),
    "max of columns": lambda s, y: y.max(3)[0],
    "max of channels": lambda s, y: torch.max(y, dim=-3, keepdim=True).values,
    "min of rows": lambda s, y: y.min(dim=2, keepdim=True)[0],
    "max with a number": lambda s, y: torch.max(y, s.one),
    "rows below": lambda s, y: torch.cat([y, s.d(y)[:, :, :3]], 2),
    "columns beside": lambda s, y: s.c(
        torch.cat([s.row.view(1, 6, 1, 1).expand(2, 6, 8, 2), y], 3)
    ),
    "coordinates": lambda s, y: torch.cat(
        [y, torch.linspace(0, 1, 8).view(1, 1, 8, 1).expand(2, 1, 8, 7), y.relu()], 1
    ),
    "sum with a vector": lambda s, y: y + y.mean((2, 3))[:, :, None, None].relu(),
    "vector with a sum": lambda s, y: y.amax((2, 3), keepdim=True) - y,
    "sum with a row": lambda s, y: y.relu() + y.mean(2, keepdim=True),
    "sum of a row and a column": lambda s, y: y.mean(2, keepdim=True) + y.amax(3, keepdim=True),
    "sum with a channel": lambda s, y: y + y.mean(1, keepdim=True).sigmoid(),
    "transposed": lambda s, y: F.conv_transpose2d(y, s.turned, stride=2),
    "transposed uneven": lambda s, y: F.conv_transpose2d(
        y, s.turned, s.row[:4], (3, 2), (2, 0), (1, 0)
    ),
    "transposed dilated": lambda s, y: F.conv_transpose2d(y, s.turned, dilation=2, padding=3),
    "transposed groups": lambda s, y: F.conv_transpose2d(
        y, s.turned, stride=2, groups=3, padding=4
    ),
    "transposed of padded": lambda s, y: F.conv_transpose2d(
        F.pad(y, (1, 0, 0, 2)), s.turned, stride=2
    ),
    "bilinear": lambda s, y: F.interpolate(y, scale_factor=2, mode="bilinear"),
    "bilinear size": lambda s, y: F.interpolate(y, (24, 7), mode="bilinear"),
    "bilinear uneven": lambda s, y: F.interpolate(y, scale_factor=(4, 5), mode="bilinear"),
    "nearest": lambda s, y: F.interpolate(y, scale_factor=2),
    "nearest size": lambda s, y: s.c(F.interpolate(y, (16, 21), mode="nearest")),
    "nearest uneven": lambda s, y: F.interpolate(y, (11, 5)),
    "nearest exact": lambda s, y: F.interpolate(y, scale_factor=(1.5, 2), mode="nearest-exact"),
    "repeated rows": lambda s, y: y.repeat_interleave(3, 2),
    "repeated channels": lambda s, y: y.repeat_interleave(2, dim=1),
    "flip": lambda s, y: torch.flip(y, (2, 3)),
    "flip channels": lambda s, y: y.flip(1),
    "roll": lambda s, y: s.c(y.roll((1, -2), (2, 3))),
    "shuffle": lambda s, y: F.pixel_shuffle(torch.cat([y, y], 1), 2),
    "shuffle by hand": lambda s, y: (
        torch.cat([y, y], 1).view(2, 3, 2, 2, 8, 7).permute(0, 1, 4, 2, 5, 3).reshape(2, 3, 16, 14)
    ),
    "shuffle in another order": lambda s, y: s.d(
        torch.cat([y] * 4, 1).view(2, 2, 2, 6, 8, 7).permute(0, 3, 4, 1, 5, 2).reshape(2, 6, 16, 14)
    ),
    "unshuffle by hand": lambda s, y: (
        y[..., :6].reshape(2, 6, 4, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 24, 4, 3)
    ),
    "unshuffle in another order": lambda s, y: (
        y[..., :6].reshape(2, 6, 4, 2, 3, 2).permute(0, 5, 3, 1, 2, 4).reshape(2, 24, 4, 3)
    ),
    "unshuffle": lambda s, y: F.pixel_unshuffle(F.pad(y, (0, 1, 0, 0), "replicate"), 4),
    "reflect": lambda s, y: s.c(F.pad(y, (1, 2, 3, 0), mode="reflect")),
    "replicate": lambda s, y: s.c(F.pad(y, (1, 2, 0, 3), mode="replicate")),
    "circular": lambda s, y: s.c(F.pad(y, (1, 2, 0, 3), mode="circular")),
    "constant": lambda s, y: s.c(F.pad(y, (1, 2, 0, 1), value=0.5)),
    "constant and crop": lambda s, y: F.pad(y, (1, -2, -1, 1, 1, 0), value=-2.0),
    "constant of a function": lambda s, y: F.pad(y.relu(), (1, 1, 1, 1), "constant", 3).sigmoid(),
    "lowest": lambda s, y: F.max_pool2d(F.pad(y, (0, 1, 1, 2), value=-torch.inf), 3, 2),
    "lowest beside a max-pool's own": lambda s, y: F.max_pool2d(
        F.pad(y - 9, (1, 0, -2, 1), value=-torch.inf), (2, 3), 2, (0, 1)
    ),
    "lowest read twice": lambda s, y: two_maxima(F.pad(y, (0, 1, 0, 1), value=-torch.inf)),
    "crop": lambda s, y: F.pad(y, (-1, 0, -2, -1)),
    "crop and pad": lambda s, y: s.c(F.pad(y, (-1, 2, 1, -3))),
    "crop channels": lambda s, y: s.c(F.pad(y, (0, 1, 0, 0, -2, 2))),
}


def two_maxima(padded: Tensor) -> Tensor:
    """Return the sum of two max-pools."""
    return F.max_pool2d(padded, 3, 1) + F.max_pool2d(padded, (2, 3), 1)[:, :, 1:]


def selective(parts: Tensor) -> Tensor:
    """Return two branches, each weighed by its share, as in selective kernels."""
    shares = parts.sum(1).mean((2, 3), keepdim=True)
    shares = torch.cat([shares, shares.tanh()], 1).view(2, 2, 6, 1, 1).softmax(dim=1)
    return (parts * shares).sum(dim=1)


def split_attention(y: Tensor) -> Tensor:
    """Return the sum of two splits of channels, each weighed by its share, as in ResNeSt."""
    parts = y.reshape(2, 2, 6, 8, 7)
    shares = parts.flatten(1, 2).mean((2, 3), keepdim=True).view(2, 1, 2, -1).transpose(1, 2)
    shares = F.softmax(shares, dim=1).reshape(2, -1).view(2, -1, 1, 1)
    return (parts * shares.reshape(2, 2, 6, 1, 1)).sum(dim=1)
