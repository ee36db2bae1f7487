"""What a survey lists, and how near its skeleton is to the network that quantization gives."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import nupes
from nupes.model.errors import UnsupportedError
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.program import Problem
from nupes.quantizer.frontend.surveys import advise, skeleton, survey
from tests.quantizer.close import images
from tests.quantizer.frontend.test_program import REFUSED, Pair
from tests.quantizer.test_operators import MODULES, conv

ARRAY = nupes.ArrayConfig(8, 8)


class Gate(nn.Module):
    """A squeeze-and-excitation gate, and a group norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.act = nn.AdaptiveAvgPool2d(1), nn.Sigmoid()
        self.mix, self.norm = nn.Conv2d(6, 6, 1), nn.GroupNorm(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        return self.norm(x * self.act(self.mix(self.pool(x))))


@pytest.mark.parametrize("name", ["conv uneven", "pad max pool", "linear twice"])
def test_what_runs_has_no_problems(name: str) -> None:
    torch.manual_seed(0)
    found = survey(MODULES[name](), (3, 10, 9))
    assert found.runs
    assert found.network is not None
    assert [layer.name for layer in found.layers] == [item.name for item in found.network.stages]


@pytest.mark.parametrize("name", ["softmax", "product", "cast", "outputs", "control flow"])
def test_what_is_refused_has_problems(name: str) -> None:
    found = survey(REFUSED[name][0], (3, 10, 9))
    assert not found.runs
    assert found.network is None
    assert all(problem.reason or problem.advice for problem in found.problems)


def test_all_problems_at_once_in_order() -> None:
    module = nn.Sequential(
        conv(),
        nn.ReLU(inplace=True),
        Gate(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Mish(),
        conv(4, 6),
    )
    found = survey(module, (3, 10, 9))
    assert [(item.module, item.operator) for item in found.problems] == [
        ("2", "mul"),
        ("2.norm", "group_norm"),
        ("3", "max_pool2d"),
        ("4", "mish"),
    ]
    assert [layer.operator for layer in found.layers] == [
        "conv 3x3 + relu",
        "average pool 8x7 stride 8x7",
        "linear + sigmoid",
        "conv 3x3",
    ]


def test_tensors_of_tokens_are_not_judged_twice() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.norm, self.head = conv(8), nn.LayerNorm(8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patch(x).flatten(2).transpose(1, 2)
            return self.head(self.norm(tokens).mean(1))

    found = survey(Tokens(), (3, 10, 9))
    assert {item.operator for item in found.problems} == {"flatten", "transpose", "layer_norm"}


def test_two_inputs_are_a_problem() -> None:
    (problem,) = survey(Pair(), (3, 10, 9)).problems
    assert problem.reason == "module must have one input, not 2: ['x', 'y']"


def test_advice_stands_beside_the_reason() -> None:
    assert advise(Problem("a", "fft", "is not supported")).advice.startswith("replace it")
    assert advise(Problem("a", "conv2d", "transposed is not supported")).advice == ""


def test_skeleton_costs_what_the_network_does() -> None:
    """Cycles differ only by how many decode tables coincide."""
    scheme = "W3A5"
    torch.manual_seed(1)
    module = nn.Sequential(
        conv(8, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        conv(8, 8, groups=4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        conv(6, 8, stride=2),
        nn.SiLU(),
        nn.AvgPool2d((1, 1)),
        nn.Flatten(),
        nn.LazyLinear(5),
    )
    module(torch.zeros(1, 3, 10, 9))
    network = survey(module, (3, 10, 9)).network
    assert network is not None
    real = nupes.quantize(module, scheme, images(4, 3, 10, 9))
    predicted = nupes.compile(skeleton(network, scheme, {}), ARRAY)
    exact = nupes.compile(real, ARRAY)
    assert [layer.name for layer in predicted.layers] == [layer.name for layer in exact.layers]
    assert [layer.macs for layer in predicted.layers] == [layer.macs for layer in exact.layers]
    assert predicted.cycles == pytest.approx(exact.cycles, rel=0.02)


def test_skeleton_refuses_a_function_of_many_turns() -> None:
    module = nn.Sequential(conv(), nn.Hardswish(), nn.Hardswish(), conv(2, 6))
    network = survey(module, (3, 10, 9)).network
    assert network is not None
    skeleton(network, "W4A4", {})  # two dips, but few enough runs of equal codes
    twisted = replace(
        network.stages[0], function=Function("wave", lambda x: torch.sin(20 * x), -1, 1)
    )
    wavy = replace(network, stages=(twisted, *network.stages[1:]))
    with pytest.raises(UnsupportedError, match="layer '0': function 'wave' must need at most 511"):
        skeleton(wavy, "W4A4", {})
