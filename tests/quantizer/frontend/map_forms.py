"""Forms of operators over maps: pools of any windows, means, upsampling, paddings."""

from collections.abc import Callable

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
    "amax of rows": lambda s, y: y.amax(2, keepdim=True),
}
