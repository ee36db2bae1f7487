"""Hundreds of ways to write operators, by family.

The forms of a family are outputs of one module, so that they share its export.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.quantizer.frontend.map_forms import MAPS
from tests.quantizer.frontend.moves import MOVES

SHAPE = (2, 3, 10, 9)

Form = Callable[[nn.Module, Tensor], Tensor]
"""What becomes of a map (b, 6, 8, 7), with the parts of a module."""


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
        self.n = nn.BatchNorm2d(6, eps=0.1)
        self.linear = nn.Linear(6 * 8 * 7, 5)
        self.register_buffer("one", torch.tensor(0.7))
        self.register_buffer("row", torch.rand(6) + 0.5)
        self.register_buffer("turned", torch.randn(6, 4, 3, 3) / 5)
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
    nn.Hardtanh(-0.2, 0.9), nn.Hardtanh(0.0, 0.5, inplace=True), nn.PReLU(init=0.6),
    nn.RReLU(0.2, 0.4),
]  # fmt: skip

FUNCTIONS: dict[str, Form] = {
    "F.relu": lambda s, y: F.relu(y),
    "F.relu inplace": lambda s, y: F.relu(y, inplace=True),
    "F.relu_": lambda s, y: F.relu_(y),
    "torch.relu_": lambda s, y: torch.relu_(y),
    "y.relu()": lambda s, y: y.relu(),
    "y.relu_()": lambda s, y: y.relu_(),
    "F.relu6": lambda s, y: F.relu6(y),
    "F.relu6 inplace": lambda s, y: F.relu6(y, True),
    "F.silu inplace": lambda s, y: F.silu(y, inplace=True),
    "F.gelu keyword": lambda s, y: F.gelu(y, approximate="tanh"),
    "F.leaky_relu positional": lambda s, y: F.leaky_relu(y, 0.25),
    "F.leaky_relu keyword": lambda s, y: F.leaky_relu(y, negative_slope=0.25),
    "F.leaky_relu inplace": lambda s, y: F.leaky_relu(y, 0.25, True),
    "F.leaky_relu_": lambda s, y: F.leaky_relu_(y, 0.25),
    "F.elu positional": lambda s, y: F.elu(y, 0.5),
    "F.elu keyword": lambda s, y: F.elu(input=y, alpha=0.5, inplace=True),
    "F.elu_": lambda s, y: F.elu_(y, 0.5),
    "F.celu": lambda s, y: F.celu(y, alpha=0.5),
    "F.selu": lambda s, y: F.selu(y, inplace=True),
    "F.mish": lambda s, y: F.mish(y),
    "F.softplus": lambda s, y: F.softplus(y, 3, 15),
    "F.softplus keyword": lambda s, y: F.softplus(y, threshold=15, beta=3),
    "F.softsign": lambda s, y: F.softsign(y),
    "F.logsigmoid": lambda s, y: F.logsigmoid(y),
    "F.tanhshrink": lambda s, y: F.tanhshrink(y),
    "F.hardshrink": lambda s, y: F.hardshrink(y, 0.3),
    "F.softshrink": lambda s, y: F.softshrink(y, 0.3),
    "F.hardtanh": lambda s, y: F.hardtanh(y, -0.3, 0.4),
    "F.hardtanh keyword": lambda s, y: F.hardtanh(y, max_val=0.4),
    "F.hardtanh_": lambda s, y: F.hardtanh_(y, min_val=-0.3),
    "F.hardsigmoid": lambda s, y: F.hardsigmoid(y, True),
    "F.hardswish": lambda s, y: F.hardswish(y, inplace=True),
    "F.threshold": lambda s, y: F.threshold(y, 0.1, 0.05),
    "F.threshold_": lambda s, y: F.threshold_(y, 0.1, 0.05),
    "F.rrelu": lambda s, y: F.rrelu(y, 0.1, 0.5, training=False),
    "F.prelu": lambda s, y: F.prelu(y, s.one.reshape(1)),
    "F.dropout": lambda s, y: F.dropout(y, training=False),
    "F.dropout inplace": lambda s, y: F.dropout(y, 0.3, False, True),
    "F.dropout nothing": lambda s, y: F.dropout(y, 0.0),
    "F.dropout module's": lambda s, y: F.dropout2d(y, training=s.training),
    "torch.sigmoid": lambda s, y: torch.sigmoid(y),
    "y.sigmoid_()": lambda s, y: y.sigmoid_(),
    "torch.special.expit": lambda s, y: torch.special.expit(y),
    "y.tanh_()": lambda s, y: y.tanh_(),
    "F.tanh": lambda s, y: F.tanh(y),
    "torch.abs": lambda s, y: torch.abs(y),
    "torch.absolute": lambda s, y: torch.absolute(y),
    "abs(y)": lambda s, y: abs(y),
    "y.abs_()": lambda s, y: y.abs_(),
    "-y": lambda s, y: -y,
    "torch.neg": lambda s, y: torch.neg(y),
    "torch.negative": lambda s, y: torch.negative(y),
    "y.neg_()": lambda s, y: y.neg_(),
    "relu(-y)": lambda s, y: torch.relu(-y),
    "y.square()": lambda s, y: y.square(),
    "y.square_()": lambda s, y: y.square_(),
    "y**2": lambda s, y: y**2,
    "torch.pow": lambda s, y: torch.pow(y, 2),
    "torch.pow keyword": lambda s, y: torch.pow(y, exponent=3),
    "y.pow_()": lambda s, y: y.pow_(2),
    "2**y": lambda s, y: 2**y,
    "y * y": lambda s, y: y * y,
    "y.mul_(y)": lambda s, y: y.mul_(y),
    "torch.exp": lambda s, y: torch.exp(y),
    "torch.expm1": lambda s, y: torch.expm1(y),
    "torch.erf": lambda s, y: torch.erf(y),
    "torch.atan": lambda s, y: torch.atan(y),
    "torch.asinh": lambda s, y: torch.asinh(y),
    "floor": lambda s, y: torch.floor(y * 3),
    "round": lambda s, y: torch.round(y * 3) / 3,
    "trunc": lambda s, y: torch.trunc(y * 3),
    "sign": lambda s, y: torch.sign(y),
    "y // 0.25": lambda s, y: y // 0.25,
    "floor_divide": lambda s, y: torch.floor_divide(y, 0.25),
    "div floor": lambda s, y: torch.div(y, 0.25, rounding_mode="floor"),
    "div trunc": lambda s, y: y.div(0.25, rounding_mode="trunc"),
    "clamp": lambda s, y: torch.clamp(y, -0.2, 0.3),
    "clamp keyword": lambda s, y: torch.clamp(y, max=0.3),
    "clamp min": lambda s, y: y.clamp(min=-0.2),
    "clamp_": lambda s, y: y.clamp_(-0.2, 0.3),
    "clip": lambda s, y: torch.clip(y, -0.2, 0.3),
    "clip_": lambda s, y: y.clip_(max=0.3),
    "clamp_min": lambda s, y: torch.clamp_min(y, -0.1),
    "clamp_max_": lambda s, y: y.clamp_max_(0.1),
    "clamp tensor": lambda s, y: torch.clamp(y, min=-s.one, max=s.one / 2),
    "maximum": lambda s, y: torch.maximum(y, s.one / 7),
    "minimum": lambda s, y: torch.minimum(s.one / 7, y),
    "max": lambda s, y: torch.max(y, s.one / 7),
    "fmin": lambda s, y: torch.fmin(y, s.one / 7),
    "where": lambda s, y: torch.where(y > 0, y, 0.2 * y),
    "where less": lambda s, y: torch.where(y < 0.1, torch.zeros_like(s.one), y - 0.1),
    "where numbers": lambda s, y: torch.where(y > 0.1, 1.0, -0.5),
    "masked": lambda s, y: (y > 0) * y,
    "masked float": lambda s, y: (y > 0).float() * y,
    "masked_fill": lambda s, y: y.masked_fill(y < 0, 0.0),
    "heaviside": lambda s, y: (y >= 0.1).to(y.dtype),
    "lerp": lambda s, y: torch.lerp(y, torch.relu(y), 0.8),
    "addcmul": lambda s, y: torch.addcmul(y, y, y, value=0.3),
    "logaddexp": lambda s, y: torch.logaddexp(y, s.one),
    "y * sigmoid(y)": lambda s, y: y * torch.sigmoid(y),
    "sigmoid(y) * y": lambda s, y: torch.sigmoid(y) * y,
    "quick gelu": lambda s, y: y * torch.sigmoid(1.702 * y),
    "y.mul(y.sigmoid())": lambda s, y: y.mul(y.sigmoid()),
    "y *= sigmoid(y)": lambda s, y: y.mul_(torch.sigmoid(y)),
    "hard swish": lambda s, y: y * F.relu6(y + 3) / 6,
    "hard swish in place": lambda s, y: y * F.relu6(y + 3, inplace=True) / 6,
    "hard swish factor": lambda s, y: y * (F.relu6(y + 3.0) * (1 / 6)),
    "hard swish clamp": lambda s, y: (y + 3).clamp_(0, 6).mul_(y).div_(6),
    "mish by hand": lambda s, y: y * torch.tanh(F.softplus(y)),
    "mish of exp": lambda s, y: y * torch.tanh(torch.log1p(torch.exp(y))),
    "softplus by hand": lambda s, y: torch.log(1 + torch.exp(y)),
    "gelu by hand": lambda s, y: 0.5 * y * (1 + torch.erf(y / 2**0.5)),
    "gelu tanh by hand": lambda s, y: (
        0.5 * y * (1 + torch.tanh(0.7978845608 * (y + 0.044715 * y**3)))
    ),
    "sigmoid by hand": lambda s, y: 1 / (1 + torch.exp(-y)),
    "reciprocal": lambda s, y: torch.reciprocal(1 + torch.exp(-y)),
    "rsqrt": lambda s, y: torch.rsqrt(y * y + 1),
    "softsign by hand": lambda s, y: y / (1 + y.abs()),
    "norm by hand": lambda s, y: y / torch.sqrt(y**2 + 0.5),
    "sqrt of relu": lambda s, y: torch.sqrt(torch.relu(y) + 0.01),
    "elu by hand": lambda s, y: torch.where(y > 0, y, torch.exp(y) - 1),
    "crelu half": lambda s, y: torch.relu(y) - 0.5 * torch.relu(-y),
    "y + relu(y)": lambda s, y: y + torch.relu(y),
    "y - tanh(y)": lambda s, y: y - torch.tanh(y),
    "y + y": lambda s, y: y + y,
    "y - y / 4": lambda s, y: y - y / 4,
    "tanh then conv": lambda s, y: s.c(2 * torch.tanh(y) - 1),
    "swish then norm": lambda s, y: s.n(y * torch.sigmoid(y)),
    "swish of norm": lambda s, y: F.silu(s.n(y)) + 1,
    "functions in a row": lambda s, y: torch.relu(torch.tanh(y) + 0.2).clamp(max=1) * 3 - 1,
    "used twice": lambda s, y: s.c(torch.relu(y)) + s.c(torch.relu(y) * 0.5),
}

OPERANDS: dict[str, Form] = {
    "float": lambda s, y: 0.7,  # type: ignore[dict-item, return-value]
    "int": lambda s, y: 3,  # type: ignore[dict-item, return-value]
    "scalar": lambda s, y: s.one,  # type: ignore[dict-item, return-value]
    "one value": lambda s, y: s.one.reshape(1, 1, 1),
    "channels": lambda s, y: s.row.reshape(6, 1, 1),
    "batch of channels": lambda s, y: s.row.view(1, 6, 1, 1),
    "new": lambda s, y: torch.full((6, 1, 1), 0.3),
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
    "moves": dict(MOVES),
}
