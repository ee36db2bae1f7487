"""What an inspection finds: the layers that quantization gives, or every problem."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.quantizer.frontend.inspection import Inspection, inspect_module
from nupes.quantizer.frontend.problems import find_advice
from tests.quantizer.close import images
from tests.quantizer.frontend.test_program import REFUSED, Pair
from tests.quantizer.test_operators import MODULES, Call, conv


class Gate(nn.Module):
    """A root of squares of two computed maps, and a function that no handler knows."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.act = nn.AdaptiveAvgPool2d(1), nn.Sigmoid()
        self.mix, self.last = nn.Conv2d(6, 6, 1), nn.LogSoftmax(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the function of the roots."""
        return self.last(torch.hypot(x, self.act(self.mix(self.pool(x)))))


class Block(nn.Module):
    """A residual block in the manner of torchvision: batch norms and in-place functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(6, 6, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = conv(6, 6, padding=1, bias=False), nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block of x."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        return self.relu(y)


class Pooled(nn.Module):
    """A pool that also returns where its maxima are."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the maxima."""
        values, _ = self.pool(x)
        return values


def residual() -> nn.Module:
    """Return a small network in the manner of torchvision's ResNets."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(6, 4))
    stem = nn.Sequential(conv(), nn.BatchNorm2d(6), nn.ReLU6(inplace=True), Pooled())
    return nn.Sequential(stem, Block(), Block(), head)


def upsampling() -> nn.Module:
    """Return a transposed convolution, each result of which reads some taps, and a bilinear one."""
    stretch = nn.Upsample(scale_factor=2, mode="bilinear")
    return nn.Sequential(nn.ConvTranspose2d(3, 6, 4, 2, 1), nn.ReLU(), stretch)


class Heads(nn.Module):
    """Attention of two heads, whose queries, keys and values are parts of one tensor each, and a
    stream of 16 bits of which some rows go on."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.norm = nn.Linear(3, 24), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.qkv(x.flatten(2).transpose(1, 2))
        q, k, v = x.unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.norm(x[..., :8] + y)[:, 1:5]


@pytest.mark.parametrize(
    "make",
    [
        residual,
        upsampling,
        MODULES["conv uneven"],
        MODULES["pad max pool"],
        MODULES["linear twice"],
        Heads,
    ],
)
def test_the_layers_are_those_of_quantize(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = make()
    found = inspect_module(module, (3, 10, 9))
    assert found.problems == ()
    real = nupes.quantize(module, "W4A4", images(4, 3, 10, 9), method="rtn")
    assert [layer.name for layer in found.layers] == [layer.name for layer in real.layers]
    shapes = [layer.output.shape for layer in real.layers]
    assert [layer.output_shape for layer in found.layers] == shapes
    assert [layer.macs for layer in found.layers] == [real.macs[item.name] for item in real.layers]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_has_problems_and_no_layers(name: str) -> None:
    found = inspect_module(REFUSED[name][0], (3, 10, 9))
    assert found.network is None
    assert found.layers == ()
    assert found.problems
    assert all(problem.reason or problem.advice for problem in found.problems)


def names(found: Inspection) -> list[tuple[str, str]]:
    """Return where the problems are and what they are of."""
    return [(problem.module, problem.operator) for problem in found.problems]


def test_all_problems_at_once_in_order() -> None:
    module = nn.Sequential(
        conv(),
        nn.ReLU(inplace=True),
        Gate(),
        nn.ConstantPad2d(1, -torch.inf),
        nn.Softmax(1),
        conv(4, 6),
        nn.Softmax(1),
    )
    found = inspect_module(module, (3, 10, 9))
    operators = ["hypot", "log_softmax", "pad", "softmax", "softmax"]
    assert names(found) == list(zip(["2", "2.last", "3", "4", "6"], operators, strict=True))
    assert found.judged
    # Only the last softmax changes no ranking.
    assert found.problems[3].advice.startswith("replace it")
    assert found.problems[4].advice.startswith("leave it out: it changes no ranking")


def test_tokens_are_judged_behind_a_refusal() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.head = conv(8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patch(x).flatten(2).transpose(1, 2)
            return self.head(torch.softmax(tokens, 2).mean(1))

    found = inspect_module(Tokens(), (3, 10, 9))
    assert {item.operator for item in found.problems} == {"softmax"}
    assert found.judged


def test_functions_are_judged_behind_a_refusal() -> None:
    module = Call(lambda s, x: torch.sin(s.b(s.a(x))), a=conv(), b=nn.LogSoftmax(1))
    found = names(inspect_module(module, (3, 10, 9)))
    assert found == [("b", "log_softmax"), ("", "sin")]


def test_several_inputs_are_inspected() -> None:
    found = inspect_module(Pair(), (3, 10, 9), (3, 10, 9))
    assert not found.problems
    assert found.layers[-1].output_shape == (10, 9, 3)


def test_advice_stands_beside_the_reason() -> None:
    assert find_advice("fft", known=False, last=False).startswith("replace it")
    assert find_advice("conv2d", known=True, last=True) == ""
