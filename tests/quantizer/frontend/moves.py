"""Ways to write operators that move values: parts of a map, other orders of its channels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MOVES"]


def shuffle(y: Tensor, groups: int) -> Tensor:
    """Return shuffled channels, as ShuffleNet's authors write it."""
    b, c, h, w = y.size()
    y = y.view(b, groups, c // groups, h, w)
    return torch.transpose(y, 1, 2).contiguous().view(b, -1, h, w)


def halves(s: nn.Module, y: Tensor) -> Tensor:
    """Return a gated unit of two halves."""
    a, b = y.chunk(2, 1)
    return a * torch.sigmoid(b)


MOVES = {
    "split": lambda s, y: torch.split(y, 2, 1)[1],
    "split in order": lambda s, y: torch.cat(y.split((1, 3, 2), dim=1)[::-1], 1),
    "split_with_sizes": lambda s, y: y.split_with_sizes((2, 4), 1)[1],
    "chunk": halves,
    "chunks that do not divide": lambda s, y: y.chunk(4, 1)[2],
    "tensor_split": lambda s, y: torch.tensor_split(y, 4, 1)[0],
    "tensor_split places": lambda s, y: y.tensor_split((1, 5), dim=1)[1],
    "split over rows": lambda s, y: y.split(4, 2)[0] + y.split(4, 2)[1],
    "unbind": lambda s, y: torch.relu(torch.unbind(y, 1)[3].unsqueeze(1)),
    "narrow": lambda s, y: y.narrow(1, 2, 3),
    "narrow columns": lambda s, y: torch.narrow(y, 3, 2, 4),
    "select": lambda s, y: y.select(1, 4)[:, None],
    "select pixel": lambda s, y: y[:, :, 3, -1],
    "slice": lambda s, y: y[:, 1:4],
    "slice to the end": lambda s, y: y[:, -2:],
    "slice with a step": lambda s, y: y[:, 1::2],
    "slice of a slice": lambda s, y: y[:, 1:][:, 1:4][:, ::2],
    "slices of everything": lambda s, y: y[:, 1:5, 1:-1, 2::2],
    "crop": lambda s, y: s.c(y[:, :, 1:-1, 1:-2]),
    "crop with a step": lambda s, y: y[:, :, 1::3, 2:6:2],
    "pad that crops": lambda s, y: F.pad(y, (-1, 0, 0, -2)),
    "pad that crops and pads": lambda s, y: s.c(F.pad(y, (-1, 1, 2, -2, -1, 1))),
    "pad and relu": lambda s, y: torch.relu(F.pad(y, (1, 0, 2, 1)) - 0.1),
    "pad and sum": lambda s, y: F.pad(y, (1, 1, 1, 1)) + F.pad(torch.relu(y), (2, 0, 0, 2)),
    "pad signed before max": lambda s, y: F.max_pool2d(F.pad(y, (1, 1)), 2),
    "pad beyond the windows of max": lambda s, y: F.max_pool2d(
        F.pad(torch.relu(y), (0, 2, 3, 0)), 2
    ),
    "pad beyond adaptive windows": lambda s, y: F.adaptive_max_pool2d(
        F.pad(torch.relu(y), (1, 0, 3, 3)), 5
    ),
    "pad then slice": lambda s, y: F.pad(y, (1, 2, 2, 1))[:, :, 1:, ::2],
    "channel_shuffle": lambda s, y: F.channel_shuffle(y, 3),
    "nn.ChannelShuffle": nn.ChannelShuffle(2),
    "shuffle by hand": lambda s, y: shuffle(y, 2),
    "shuffle, then convolution": lambda s, y: s.c(shuffle(torch.relu(y), 3)),
    "shuffle with flatten": lambda s, y: y.unflatten(1, (2, 3)).transpose(1, 2).flatten(1, 2),
    "shuffle with permute": lambda s, y: (
        y.reshape(2, 3, 2, 8, 7).permute(0, 2, 1, 3, 4).reshape(2, 6, 8, 7)
    ),
    "shuffle with movedim": lambda s, y: y.unflatten(1, (3, 2)).movedim(1, 2).reshape(y.shape),
    "relu of a shuffle under way": lambda s, y: torch.relu(
        y.unflatten(1, (3, 2)).swapaxes(1, 2)
    ).flatten(1, 2),
    "shuffle and split": lambda s, y: shuffle(y, 2).chunk(2, 1)[1],
    "mirrored channels": lambda s, y: y.flip(1),
    "rolled channels": lambda s, y: y.roll(2, 1),
    "index": lambda s, y: y[:, [3, 0, 0, 5]],
    "index tensor": lambda s, y: y[:, torch.tensor([5, 2])],
    "index_select": lambda s, y: torch.index_select(y, 1, torch.tensor([2, 2, 1])),
    "repeat": lambda s, y: y.repeat(1, 2, 1, 1),
    "tile": lambda s, y: torch.tile(y, (2, 1, 1)),
    "repeat_interleave": lambda s, y: y.repeat_interleave(2, 1),
    "expand": lambda s, y: y[:, :1].expand(-1, 6, -1, -1),
    "expand_as": lambda s, y: y[:, 2:3].expand_as(y) + y,
    "gate expanded": lambda s, y: y * torch.sigmoid(y.mean((2, 3))).view(2, 6, 1, 1).expand_as(y),
    "gate of a pixel expanded": lambda s, y: torch.sigmoid(y[:, :1]).expand(-1, 6, -1, -1) * y,
    "expanded constant": lambda s, y: y + s.row.view(1, 6, 1, 1).expand(2, -1, 8, 7),
    "flat in another order": lambda s, y: s.linear(y.permute(0, 2, 3, 1).flatten(1)),
    "flat shuffle": lambda s, y: s.linear(shuffle(y, 2).flatten(1)),
    "flat crop": lambda s, y: y[:, :3, 2:4].flatten(1),
    "flat vectors": lambda s, y: torch.relu(y.mean((2, 3)))[:, 1:5:2],
    "rearranged vectors": lambda s, y: y.mean((2, 3)).view(2, 3, 2).transpose(1, 2).flatten(1),
}
"""What becomes of a map (b, 6, 8, 7), with the parts of a module."""
