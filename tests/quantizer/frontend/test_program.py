"""What capture refuses, by name, and what it leaves as it was."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nupes.model.errors import InputError, UnsupportedError
from nupes.quantizer.frontend.graph import Pool
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from tests.quantizer.test_operators import Call, conv


def spoiled(module: nn.Module, name: str, value: float) -> nn.Module:
    """Return the module with one value of a parameter or buffer replaced."""
    dict(module.state_dict())[name].view(-1)[0] = value
    return module


def two(function: Callable[..., Tensor]) -> nn.Module:
    """Return a module with the convolutions ``a`` and ``b``."""
    return Call(function, a=conv(), b=conv())


class Counter(nn.Module):
    """A module whose results depend on how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum with the number of calls."""
        self.count += 1
        return x + self.count


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "log softmax": (
        nn.Sequential(conv(), nn.LogSoftmax(1)),
        r"operator aten.log_softmax.int in module '1' is not supported; supported operators: adapt",
    ),
    "nested": (
        nn.Sequential(conv(), nn.Sequential(nn.ReLU(), nn.LogSoftmax(1))),
        r"operator aten.log_softmax.int in module '1.1' is not supported",
    ),
    "top": (
        two(lambda s, x: torch.hypot(s.a(x), s.b(x))),
        r"aten.hypot.default in the top module: of two computed tensors only sum, difference, ",
    ),
    "product": (
        two(lambda s, x: s.a(x).mean(3)[:, :, :1] * s.b(x).mean(3)[:, :1]),
        r"both factors of a product must have one shape, or one of them sizes of 1",
    ),
    "shapes": (
        two(lambda s, x: s.a(x).tile(9, 10)[:, :, :70].mean(3) + s.a(x).tile(9, 10).mean(2)),
        r"aten.add.Tensor .*: both tensors of a sum must have one shape, .* not \(6, 70\) and",
    ),
    "constant of each image": (
        Call(lambda s, x: s.a(x + torch.arange(2.0).view(2, 1, 1, 1)), a=conv()),
        r"must be the same for every image of the batch, not of shape \(2, 1, 1, 1\)",
    ),
    "product through a constant per channel": (
        Call(lambda s, x: x / torch.sigmoid(x * torch.arange(3.0).view(3, 1, 1))),
        r"a function of one tensor must have no constant per channel inside",
    ),
    "bound per channel": (
        Call(lambda s, x: torch.maximum(s.a(x), torch.arange(6.0).view(6, 1, 1)), a=conv()),
        r"its constant operand must be one number for all channels, not of shape \(6, 1, 1\)",
    ),
    "interpolation per channel": (
        two(lambda s, x: torch.lerp(s.a(x), s.b(x), torch.full((6, 1, 1), 0.1))),
        r"its weight must be one number, not of shape \(6, 1, 1\)",
    ),
    "two turning points": (
        Call(lambda s, x: s.a(x) ** 3 - s.a(x), a=nn.Identity()),
        r"function 'sub\(pow\(3\), x\)' must have at most one turning point, not 2",
    ),
    "logarithm": (
        Call(lambda s, x: torch.log(s.a(x)), a=conv()),
        r"function 'log' must have a value everywhere, not none at -16",
    ),
    "truth values": (
        Call(lambda s, x: s.a(x) > 0, a=conv()),
        r"its result must be real numbers, not torch.bool",
    ),
    "division by zero": (
        Call(lambda s, x: s.a(x) / 0, a=conv()),
        r"division must be by a constant that is not zero",
    ),
    "random": (
        Call(lambda s, x: s.a(x) + torch.rand(1), a=conv()),
        r"aten.rand.default in the top module: random numbers must not be drawn: they would be the",
    ),
    "dropout": (
        Call(lambda s, x: F.dropout(s.a(x)), a=conv()),
        r"dropout must be off: F.dropout drops values unless it is given training=self.training",
    ),
    "batch statistics": (
        nn.Sequential(conv(), nn.BatchNorm2d(6, track_running_stats=False)),
        r"batch norm must have running statistics, not compute them from each batch; train it",
    ),
    "counter": (
        Counter(),
        r"buffer 'b_count' must not change from call to call",
    ),
    "argument": (
        Call(lambda s, x: s.a(x).mean((2, 3), dtype=torch.float64), a=conv()),
        r"aten.mean.dim in the top module: its argument 'dtype' must be None, not torch.float64",
    ),
    "vector of weights": (
        Call(lambda s, x: s.a(x).flatten(1) @ torch.ones(336), a=conv()),
        r"its second operand must be a matrix, not of shape \(336,\)",
    ),
    "no rows": (
        Call(lambda s, x: F.pad(s.a(x), (0, 0, -4, -4)), a=conv()),
        r"padding must leave rows, columns and channels",
    ),
    "flipped images": (
        Call(lambda s, x: s.a(x).flip(0), a=conv()),
        r"aten.flip.default in the top module: it must leave the batch dimension as it is",
    ),
    "aligned corners": (
        Call(
            lambda s, x: F.interpolate(s.a(x), scale_factor=2, mode="bilinear", align_corners=True),
            a=conv(),
        ),
        r"bilinear upsampling must have align_corners=False, not True",
    ),
    "upsampling by parts": (
        Call(lambda s, x: F.interpolate(s.a(x), size=(71, 14), mode="bilinear"), a=conv()),
        r"resampling must be by a ratio of small numbers, not from 8 to 71 pixels",
    ),
    "rolled vectors": (
        Call(lambda s, x: s.a(x).flatten(1).roll(1, 1), a=conv(padding=1)),
        r"aten.roll.default in the top module: it must select whole channels, rows and columns",
    ),
    "infinite pad": (
        nn.Sequential(nn.ConstantPad2d(1, -math.inf), conv()),
        r"padding must be with a finite number, or -inf where max-pools read it, not -inf",
    ),
    "padded vector": (
        Call(lambda s, x: F.pad(s.a(x).flatten(1), (1, 0)), a=conv()),
        r"padding must be of a feature map, not of a vector",
    ),
    "lowest pad": (
        Call(lambda s, x: F.pad(s.a(x), (0, 1), value=-torch.inf).relu(), a=conv()),
        r"padding must be with a finite number, or -inf where max-pools read it, not -inf",
    ),
    "lowest pad of channels": (
        Call(lambda s, x: F.max_pool2d(F.pad(x, (0, 0, 0, 0, 0, 1), value=-torch.inf), 2)),
        r"padding must be with a finite number, or -inf where max-pools read it, not -inf",
    ),
    "turned": (
        Call(lambda s, x: s.a(x[:, 1:].transpose(2, 3)[:, :1]), a=conv(6, 1)),
        r"aten.slice.Tensor in the top module: it must select whole channels, rows and columns",
    ),
    "turned output": (
        Call(lambda s, x: torch.cat([s.a(x), x, x], 1).mT, a=conv(padding=1)),
        r"aten.\w+.\w+ in the top module: it must select whole channels, rows and columns",
    ),
    "shuffle by hand": (
        Call(
            lambda s, x: s.a(x)[:, :4].view(2, 1, 2, 2, 10, 9).permute(0, 1, 4, 2, 5, 3).flatten(1),
            a=conv(padding=1),
        ),
        r"aten.flatten.using_ints .*: it must select whole channels, rows and columns",
    ),
    "nothing": (
        Call(lambda s, x: torch.relu(s.a(x)[:, 6:]), a=conv()),
        r"aten.slice.Tensor in the top module: it must leave some values, not none",
    ),
    "no part": (
        Call(lambda s, x: s.a(x).split((0, 6), 1)[0], a=conv()),
        r"getitem.* in the top module: it must leave some values, not none",
    ),
    "mask": (
        Call(lambda s, x: s.a(x)[:, s.m], a=conv(), m=torch.tensor([True, False] * 3)),
        r"the shape of what it gives must be known; index by numbers, not by a mask",
    ),
    "index that is computed": (
        Call(lambda s, x: s.a(x).index_select(1, x[0, 0, 0].long()), a=conv()),
        r"cast to torch.int64 is not supported|its indices must be constant",
    ),
    "memory": (
        Call(lambda s, x: s.a(x).as_strided((2, 6), (336, 1)), a=conv()),
        r"operator aten.as_strided.default in the top module is not supported",
    ),
    "linear of a map": (
        nn.Linear(9, 3),
        r"linear must read \(batch, features\) or channels",
    ),
    "reshape": (
        Call(lambda s, x: s.a(x).reshape(-1), a=conv()),
        r"in the top module: it must leave the batch dimension as it is",
    ),
    "mean": (
        Call(lambda s, x: s.a(x).mean((1, 2, 3)), a=conv()),
        r"mean over all dimensions of a map must have keepdim=True",
    ),
    "mean of images": (
        Call(lambda s, x: s.a(x).mean((0, 1)), a=conv()),
        r"mean must be over dimensions of a map among \(1, 2, 3\), not \[0, 1\]",
    ),
    "largest of all": (
        Call(lambda s, x: s.a(x) / s.a(x).max(), a=conv()),
        r"max must be over dimensions of a map among \(1, 2, 3\), not None",
    ),
    "place of the largest": (
        Call(lambda s, x: s.a(x).max(1)[1].float(), a=conv()),
        r"only the first result of an operator is supported",
    ),
    "computed weight": (
        Call(lambda s, x: F.conv2d(x, s.a(x)[:, :3, :3, :3].mean(0, keepdim=True)), a=conv()),
        r"is not supported|must be",
    ),
    "cast": (
        Call(lambda s, x: s.a(x).int().float(), a=conv()),
        r"aten.to.dtype in the top module: a cast to torch.int32 is not supported; keep floating-",
    ),
    "constant output": (
        Call(lambda s, x: (s.a(x), s.m), a=conv(), m=torch.ones(2)),  # type: ignore[arg-type]
        r"module output must depend on its input, not be a constant",
    ),
    "constant": (
        Call(lambda s, x: torch.zeros(2, 3)),
        r"module output must depend on its input, not be a constant",
    ),
    "control flow": (
        Call(lambda s, x: s.a(x) if x.sum() > 0 else x, a=conv()),
        r"module Call must be exportable by torch.export, not fail with: ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    module, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message):
        capture(export_module(module, (2, 3, 10, 9)))


class Pair(nn.Module):
    """A module of two inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum."""
        return x + y


def test_every_input_has_a_shape() -> None:
    message = r"module must be given a shape for each of its 2 inputs \(x, y\), not 1"
    with pytest.raises(InputError, match=message):
        export_module(Pair(), (2, 3, 10, 9))
    with pytest.raises(InputError, match=r"images of shape \(3, 10, 9\) and \(3, 4, 9\), not fail"):
        export_module(Pair(), (2, 3, 10, 9), (2, 3, 4, 9))
    graph = capture(export_module(Pair(), (2, 3, 10, 9), (2, 3, 10, 9)))
    assert {node.name: node.shape for node in graph.inputs} == {
        "input.x": (10, 9, 3),
        "input.y": (10, 9, 3),
    }


class Unused(nn.Module):
    """A module that does not look at one of its inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the square of the first."""
        return x * x


class Scaled(nn.Module):
    """A module that takes a number."""

    def forward(self, x: Tensor, factor: float) -> Tensor:
        """Return a multiple."""
        return x * factor


class Fixed(nn.Module):
    """A module without an input."""

    def forward(self) -> Tensor:
        """Return a constant."""
        return torch.zeros(2, 3)


def test_inputs_of_which_no_network_can_be_made() -> None:
    x, y = torch.zeros(2, 3, 10, 9), torch.zeros(1, 3, 10, 9)
    with pytest.raises(UnsupportedError, match="module input 'y' must be used by what the module"):
        capture(export_module(Unused(), x.shape, x.shape))
    with pytest.raises(UnsupportedError, match=r"inputs must have one batch size, not \[2, 1\]"):
        capture(torch.export.export(Pair(), (x, y)))
    message = r"module input 'factor' must be a tensor \(batch, ...\), not "
    with pytest.raises(UnsupportedError, match=message):
        capture(torch.export.export(Scaled(), (x, torch.tensor(2.0))))
    assert len(capture(torch.export.export(Scaled(), (x, 2.0))).inputs) == 1
    with pytest.raises(UnsupportedError, match="module must have an input tensor, not none"):
        capture(torch.export.export(Fixed(), ()))


def test_wrong_channel_count() -> None:
    message = r"must accept images of shape \(3, 10, 9\), not fail with: .*4 channels"
    with pytest.raises(InputError, match=message):
        export_module(conv(c=4), (2, 3, 10, 9))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            spoiled(nn.Sequential(conv()), "0.weight", float("nan")),
            "operator aten.conv2d.default in module '0': its weight must be finite",
        ),
        (
            spoiled(nn.Sequential(conv()), "0.bias", float("inf")),
            "in module '0': its bias must be finite, not NaN or infinite",
        ),
        (
            spoiled(nn.Sequential(conv(), nn.BatchNorm2d(6)), "1.running_mean", float("inf")),
            "in module '1': its running mean must be finite",
        ),
        (
            spoiled(nn.Sequential(conv(), nn.BatchNorm2d(6)), "1.running_var", -1.0),
            "in module '1': its running variance must be positive",
        ),
    ],
)
def test_bad_parameters(module: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        capture(export_module(module, (2, 3, 10, 9)))


def test_training_flags_are_restored() -> None:
    module = nn.Sequential(conv(), nn.BatchNorm2d(6), nn.Dropout())
    module.train()
    module[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    export_module(module, (2, 3, 10, 9))
    assert [part.training for part in module] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_in_place_functions_do_not_reach_back() -> None:
    def forward(self: Call, x: Tensor) -> Tensor:
        y = self.a(x)
        z = y.relu_()
        return y + self.b(x) + z

    graph = capture(export_module(two(forward), (2, 3, 10, 9)))
    # The sum reads the rectified tensor twice: the function happened in place.
    reads = [name for node in graph.nodes.values() for name in node.inputs]
    assert reads.count("relu") == 2


def test_programs_of_other_exports() -> None:
    module = nn.Sequential(conv(), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(336, 4)).eval()
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(module, (torch.zeros(2, 3, 10, 9),), dynamic_shapes=dynamic)
    assert list(capture(program).nodes) == ["input", "0", "1", "3"]
    module.train()
    trained = torch.export.export(module, (torch.zeros(2, 3, 10, 9),))
    message = "batch norm must use its running statistics; export in evaluation mode"
    with pytest.raises(UnsupportedError, match=message):
        capture(trained)


def test_inputs_of_five_dimensions() -> None:
    program = torch.export.export(nn.Conv3d(4, 3, 1), (torch.zeros(2, 4, 1, 1, 1),))
    message = r"\(batch, tokens, channels\) or \(batch, features\), not \(2, 4, 1, 1, 1\)"
    with pytest.raises(UnsupportedError, match=message):
        capture(program)


def test_what_does_not_change_a_network() -> None:
    """Dead branches, pools without a stride, regions without gradients."""

    def forward(self: Call, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = self.a(x).relu_()
        torch.rand(3)
        return F.avg_pool2d(y, (8, 7), 70)

    graph = capture(export_module(Call(forward, a=conv()), (2, 3, 10, 9)))
    assert [type(node.op).__name__ for node in graph.nodes.values()] == [
        "Input",
        "Convolution",
        "Function",
        "Pool",
    ]
    pool = next(node.op for node in graph.nodes.values() if isinstance(node.op, Pool))
    assert pool.op.stride == (1, 1)
