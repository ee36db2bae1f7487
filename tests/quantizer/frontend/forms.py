"""Hundreds of ways to write operators, by family.

The forms of a family are outputs of one module, so that they share its export.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.quantizer.frontend.function_forms import FUNCTIONS, Form
from tests.quantizer.frontend.map_forms import MAPS
from tests.quantizer.frontend.moves import MOVES
from tests.quantizer.frontend.sequence_forms import SEQUENCES

SHAPE = (2, 3, 10, 9)


class Forms(nn.Module):
    """A module whose outputs are forms of one convolution's output."""

    def __init__(self, forms: list[Form | nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(form for form in forms if isinstance(form, nn.Module))
        self.forms = [
            self.apply_layer(form) if isinstance(form, nn.Module) else form for form in forms
        ]
        self.stem = nn.Conv2d(3, 6, 3)
        self.b = nn.Conv2d(3, 6, 3)
        self.c = nn.Conv2d(6, 4, 3, padding=1)
        self.d = nn.Conv2d(6, 6, 3, padding=1)
        self.line, self.lines = nn.Conv1d(6, 6, 3), nn.Conv1d(6, 4, 3, groups=2)
        self.tokens, self.norm = nn.Linear(6, 4), nn.BatchNorm1d(6, eps=0.1)
        self.n = nn.BatchNorm2d(6, eps=0.1)
        self.linear = nn.Linear(6 * 8 * 7, 5)
        self.register_buffer("one", torch.tensor(0.7))
        self.register_buffer("row", torch.rand(6) + 0.5)
        self.register_buffer("turned", torch.randn(6, 4, 3, 3) / 5)
        self.register_buffer("band", torch.tensor([[[0.2, 0.7, -0.4]]]))
        self.register_buffer("kernel", torch.randn(4, 6, 3, 3) / 5)
        self.register_buffer("table", torch.randn(5, 6 * 8 * 7) / 9)

    @staticmethod
    def apply_layer(layer: nn.Module) -> Form:
        """Return a layer as a form."""
        return lambda s, y: layer(y)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return every form of the convolution's output."""
        return tuple(form(self, self.stem(x)) for form in self.forms)


LAYERS: list[nn.Module] = [
    *(kind(inplace=inplace) for inplace in (False, True) for kind in (
        nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.ELU, nn.SELU,
        nn.CELU, nn.Mish, nn.LeakyReLU, nn.RReLU, nn.Dropout, nn.Dropout2d, nn.AlphaDropout)),
    *(kind() for kind in (
        nn.Sigmoid, nn.Tanh, nn.GELU, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink,
        nn.Hardshrink, nn.Softshrink, nn.PReLU, nn.Identity, nn.Flatten)),
    nn.GELU(approximate="tanh"), nn.LeakyReLU(0.3), nn.LeakyReLU(0.3, inplace=True),
    nn.ELU(0.5), nn.ELU(2.0, inplace=True), nn.CELU(1.7), nn.Softplus(2.0, 15.0),
    nn.Hardshrink(0.2), nn.Softshrink(0.1), nn.Threshold(0.1, 0.0), nn.Threshold(-0.1, -0.1, True),
    nn.Hardtanh(-0.2, 0.9), nn.Hardtanh(0.0, 0.5, inplace=True), nn.PReLU(init=0.6), nn.PReLU(6),
    nn.RReLU(0.2, 0.4),
]  # fmt: skip

OPERANDS: dict[str, Form] = {
    "float": lambda s, y: 0.7,  # type: ignore[dict-item, return-value]
    "int": lambda s, y: 3,  # type: ignore[dict-item, return-value]
    "scalar": lambda s, y: s.one,  # type: ignore[dict-item, return-value]
    "one value": lambda s, y: s.one.reshape(1, 1, 1),
    "channels": lambda s, y: s.row.reshape(6, 1, 1),
    "batch of channels": lambda s, y: s.row.view(1, 6, 1, 1),
    "new": lambda s, y: torch.full((6, 1, 1), 0.3),
    "pixels": lambda s, y: torch.linspace(0.5, 2, y[0, 0].numel()).reshape(y.shape[2:]),
    "values": lambda s, y: torch.linspace(0.5, 2, y[0].numel()).reshape(1, *y.shape[1:]),
    "lines of channels": lambda s, y: (
        s.row.view(6, 1, 1) + torch.arange(1.0, y.shape[2] + 1)[:, None]
    ),
}

OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "add": lambda y, c: torch.add(y, c),
    "add alpha": lambda y, c: torch.add(y, c, alpha=2),
    "add method": lambda y, c: y.add(c),
    "add_": lambda y, c: y.add_(c),
    "add_ alpha": lambda y, c: y.add_(c, alpha=-0.5),
    "y + c": lambda y, c: y + c,
    "c + y": lambda y, c: c + y,
    "sub": lambda y, c: torch.sub(y, c),
    "sub alpha": lambda y, c: torch.sub(y, other=c, alpha=3),
    "subtract": lambda y, c: torch.subtract(y, c),
    "sub_": lambda y, c: y.sub_(c, alpha=2),
    "y - c": lambda y, c: y - c,
    "c - y": lambda y, c: c - y,
    "rsub": lambda y, c: torch.rsub(y, c),
    "rsub alpha": lambda y, c: torch.rsub(y, c, alpha=2),
    "mul": lambda y, c: torch.mul(y, c),
    "multiply": lambda y, c: torch.multiply(y, other=c),
    "mul_": lambda y, c: y.mul_(c),
    "y * c": lambda y, c: y * c,
    "c * y": lambda y, c: c * y,
    "div": lambda y, c: torch.div(y, c),
    "divide": lambda y, c: torch.divide(y, c),
    "true_divide": lambda y, c: torch.true_divide(y, c),
    "div_": lambda y, c: y.div_(c),
    "y / c": lambda y, c: y / c,
}


def combine(operation: Callable[..., Tensor], operand: Form) -> Form:
    """Return an operation with an operand as a form."""
    return lambda s, y: operation(y, operand(s, y))


ARITHMETIC = {
    f"{name}, {kind}": combine(operation, operand)
    for (name, operation), (kind, operand) in product(OPERATIONS.items(), OPERANDS.items())
}

SUMS: dict[str, Form] = {
    "y + c": lambda s, y: y + s.n(y) * s.row.view(6, 1, 1),
    "add": lambda s, y: torch.add(torch.relu(y), s.n(y)),
    "alpha": lambda s, y: torch.add(torch.relu(y), s.n(y), alpha=0.5),
    "+=": lambda s, y: torch.relu(y).add_(s.n(y)),
    "difference": lambda s, y: torch.relu(y) - s.n(y),
    "sub alpha": lambda s, y: torch.sub(torch.relu(y), s.n(y), alpha=2),
    "rsub": lambda s, y: torch.rsub(torch.relu(y), s.n(y)),
    "rsub alpha": lambda s, y: torch.rsub(torch.relu(y), s.n(y), alpha=2),
    "lerp": lambda s, y: torch.lerp(s.n(y), torch.relu(y), 0.3),
    "lerp tensor": lambda s, y: s.n(y).lerp(torch.tanh(y), s.one),
    "factor of a tensor read twice": lambda s, y: torch.relu(s.d(y) + 0.3 * y),
    "less a tensor read twice": lambda s, y: F.silu(s.n(s.d(y)) - y) + y,
    "twice a sum less a tensor": lambda s, y: torch.sub(s.d(y), y, alpha=2) * 3 + y,
    "in-place block": lambda s, y: s.n(torch.relu_(y)).add_(y).relu_(),
}

WINDOWS: dict[str, Form] = {
    "conv positional": lambda s, y: F.conv2d(y, s.kernel, s.row[:4], 2, 1, 1, 1),
    "conv keyword": lambda s, y: F.conv2d(y, weight=s.kernel, stride=(1, 2), padding=(0, 1)),
    "conv mixed": lambda s, y: F.conv2d(y, s.kernel, None, dilation=2),
    "conv same": lambda s, y: F.conv2d(y, s.kernel, padding="same"),
    "conv valid": lambda s, y: F.conv2d(y, s.kernel, padding="valid"),
    "conv groups": lambda s, y: F.conv2d(y, s.kernel[:, :3], groups=2),
    "conv of standardized weights": lambda s, y: F.conv2d(
        y, (s.kernel - s.kernel.mean((1, 2, 3), keepdim=True)) / s.kernel.std()
    ),
    "conv of transposed weights": lambda s, y: F.conv2d(y, s.kernel.transpose(2, 3).flip(2)),
    "conv channels last": lambda s, y: F.conv2d(
        y.contiguous(memory_format=torch.channels_last),
        s.kernel.contiguous(memory_format=torch.channels_last),
    ),
    "linear": lambda s, y: F.linear(y.flatten(1), s.table, s.row[:5]),
    "linear keyword": lambda s, y: F.linear(input=torch.flatten(y, start_dim=1), weight=s.table),
    "matmul": lambda s, y: y.flatten(1) @ s.table.t(),
    "torch.matmul": lambda s, y: torch.matmul(y.flatten(1), other=s.table.t()),
    "mm": lambda s, y: torch.mm(y.flatten(1), s.table.T),
    "addmm": lambda s, y: torch.addmm(s.row[:5], y.flatten(1), s.table.t()),
    "addmm factors": lambda s, y: torch.addmm(
        s.row[:5], y.flatten(1), s.table.t(), beta=0.5, alpha=3
    ),
    "norm": lambda s, y: F.batch_norm(y, s.n.running_mean, s.n.running_var),
    "norm keyword": lambda s, y: F.batch_norm(
        y,
        weight=s.row,
        bias=s.row,
        running_mean=s.n.running_mean,
        running_var=s.n.running_var,
        eps=0.5,
    ),
    "norm positional": lambda s, y: F.batch_norm(
        y, s.n.running_mean, s.n.running_var, s.row, s.row, False, 0.9, 0.3
    ),
    "max": lambda s, y: F.max_pool2d(y, 2),
    "max positional": lambda s, y: F.max_pool2d(y, 3, 2, 1),
    "max keyword": lambda s, y: F.max_pool2d(y, kernel_size=(2, 3), stride=(1, 2), padding=(0, 1)),
    "max dilated": lambda s, y: torch.max_pool2d(y, 2, dilation=2, stride=1),
    "max ceil": lambda s, y: F.max_pool2d(y, 2, ceil_mode=True),
    "max ceil padded": lambda s, y: F.max_pool2d(y, 3, 2, 1, ceil_mode=True),
    "max ceil stride": lambda s, y: F.max_pool2d(y, 3, (3, 2), ceil_mode=True),
    "max of one window": lambda s, y: F.max_pool2d(y, 5),
    "max indices": lambda s, y: F.max_pool2d(y, 2, return_indices=True)[0],
    "max adaptive": lambda s, y: F.adaptive_max_pool2d(y, (4, 7)),
    "max adaptive one": lambda s, y: F.adaptive_max_pool2d(y, 1).flatten(1),
    "amax": lambda s, y: y.amax((2, 3)),
    "amax kept": lambda s, y: torch.amax(y, dim=(-2, -1), keepdim=True),
    "average": lambda s, y: F.avg_pool2d(y, 2),
    "average positional": lambda s, y: F.avg_pool2d(y, 3, 2, 1, False, True),
    "average keyword": lambda s, y: F.avg_pool2d(y, (3, 2), stride=1, padding=(1, 0)),
    "average divisor": lambda s, y: F.avg_pool2d(y, 2, divisor_override=3),
    "average divisor padded": lambda s, y: F.avg_pool2d(
        y, 3, 2, 1, count_include_pad=False, divisor_override=4
    ),
    "average divisor ceil": lambda s, y: F.avg_pool2d(y, 2, ceil_mode=True, divisor_override=4),
    "average no pad": lambda s, y: F.avg_pool2d(y, 2, count_include_pad=False),
    "average ceil": lambda s, y: F.avg_pool2d(y, (2, 1), ceil_mode=True),
    "average ceil padded": lambda s, y: F.avg_pool2d(y, (4, 3), (2, 2), 1, ceil_mode=True),
    "average of one window": lambda s, y: F.avg_pool2d(y, (6, 5)),
    "average whole": lambda s, y: F.avg_pool2d(y, (8, 7)),
    "adaptive": lambda s, y: F.adaptive_avg_pool2d(y, 1),
    "adaptive sizes": lambda s, y: F.adaptive_avg_pool2d(y, (2, 7)),
    "adaptive none": lambda s, y: F.adaptive_avg_pool2d(y, (None, 1)),
    "mean": lambda s, y: y.mean((2, 3)),
    "mean list": lambda s, y: torch.mean(y, [3, 2]),
    "mean kept": lambda s, y: y.mean(dim=(-1, -2), keepdim=True),
    "pad": lambda s, y: s.c(F.pad(y, (1, 2, 0, 1))),
    "pad keyword": lambda s, y: s.c(F.pad(y, pad=(0, 1), mode="constant", value=0.0)),
    "pad nothing": lambda s, y: F.pad(y, (0, 0)),
    "pad channels": lambda s, y: F.pad(y, (0, 0, 0, 0, 1, 2)),
    "slice": lambda s, y: y[:, :, ::2, ::2],
    "slice rows": lambda s, y: y[:, :, ::3],
    "slice of all": lambda s, y: y[:, :, :, :],
}

SHAPES: dict[str, Form] = {
    "flatten": lambda s, y: torch.flatten(y, 1),
    "flatten method": lambda s, y: y.flatten(start_dim=1),
    "flatten negative": lambda s, y: y.flatten(-3, -1),
    "view_as": lambda s, y: y.view_as(s.b.weight.new_zeros(2, 6, 8, 7)),
    "reshape": lambda s, y: y.reshape(-1, 336),
    "reshape function": lambda s, y: torch.reshape(y, (y.size(0), 6 * 8 * 7)),
    "view of view of view": lambda s, y: s.linear(y.reshape(2, 336).view(2, 6, 8, 7).view(2, -1)),
    "unflatten": lambda s, y: y.flatten(1).unflatten(1, (6, 8, 7)),
    "squeeze": lambda s, y: y.mean((2, 3), keepdim=True).squeeze((2, 3)),
    "unsqueeze": lambda s, y: s.c(y.mean((2, 3))[:, :, None, None]),
    "contiguous": lambda s, y: y.contiguous(),
    "clone": lambda s, y: y.clone(),
    "clone then in place": lambda s, y: y.clone().relu_(),
    "detach": lambda s, y: y.detach(),
    "to": lambda s, y: y.to(y.dtype),
    "to device": lambda s, y: y.to("cpu"),
    "type_as": lambda s, y: y.type_as(s.row),
    "relu of flat": lambda s, y: torch.relu(y.flatten(1)) * 2 + 1,
    "in place twice": lambda s, y: (y.relu_(), y.mul_(2), y)[2],
    "read before": lambda s, y: y.sigmoid() + y.relu_() * 0,
    "no_grad": lambda s, y: no_grad(s, y),
    "no_grad in place": lambda s, y: torch.no_grad()(lambda: torch.relu_(s.n(y)))(),
    "autocast off": lambda s, y: autocast_off(s, y),
    "used twice": lambda s, y: s.d(torch.relu(s.d(s.d(y)))),
    "inference": lambda s, y: torch.inference_mode()(lambda: s.c(y))(),
    "to double and back": lambda s, y: s.c(y.double().to(y.dtype)),
}

VIEWS: dict[str, Form] = {
    "view": lambda s, y: y.view(y.shape[0], -1),
    "view numbers": lambda s, y: y.view(2, 336),
    "view of view": lambda s, y: y.view(2, -1).view(2, 6, 8, 7).flatten(1),
    "in place on a view": lambda s, y: y.view(2, -1).relu_(),
    "seen through a view": lambda s, y: (y.view(2, -1).relu_(), y)[1],
}
"""Views that PyTorch itself refuses of maps whose channels are last in memory."""


def no_grad(s: nn.Module, y: Tensor) -> Tensor:
    """Return a layer's output, computed without gradients."""
    with torch.no_grad():
        z = s.c(y)  # type: ignore[operator]
    return torch.relu(z)


def autocast_off(s: nn.Module, y: Tensor) -> Tensor:
    """Return a layer's output under an autocast that is off."""
    with torch.autocast("cpu", enabled=False):
        return s.c(y)  # type: ignore[operator]


FAMILIES: dict[str, dict[str, Form | nn.Module]] = {
    "layers": {f"{index} {layer}": layer for index, layer in enumerate(LAYERS)},
    "functions": dict(FUNCTIONS),
    "arithmetic": dict(ARITHMETIC),
    "sums": dict(SUMS),
    "windows": dict(WINDOWS),
    "maps": dict(MAPS),
    "shapes": dict(SHAPES),
    "views": dict(VIEWS),
    "sequences": dict(SEQUENCES),
    "moves": dict(MOVES),
}
