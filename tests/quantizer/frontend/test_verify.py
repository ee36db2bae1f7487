"""The self-check of capture: every wrong node is found, and rounding is no reason to complain."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.model.errors import InputError, NupesError
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.graph import Graph
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.registry import HANDLERS
from nupes.quantizer.frontend.verify import match, verify_capture
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse
from tests.quantizer.close import images, randomize_norms
from tests.quantizer.test_operators import Call, conv

SHAPE = (2, 3, 10, 9)


def network() -> nn.Module:
    """Return a network with one node of each kind."""
    torch.manual_seed(0)
    return randomize_norms(
        nn.Sequential(
            Call(lambda s, x: (x - 0.3) * 2),
            nn.ZeroPad2d((1, 0, 1, 0)),
            conv(),
            nn.BatchNorm2d(6),
            nn.GELU(),
            Call(lambda s, x: x + s.a(x), a=conv(6, 6, padding=1)),
            nn.AvgPool2d(2),
            Call(lambda s, x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))),
            nn.MaxPool2d(2, 1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )
    )


def check(module: nn.Module, graph: Graph, inputs: np.ndarray | None = None) -> None:
    """Verify a module's graph with images."""
    x = images(*SHAPE) if inputs is None else inputs
    verify_capture(module, graph, fuse(graph), Batch((torch.from_numpy(x),)))


def change(graph: Graph, name: str, **fields: Any) -> None:
    """Change an operator of a graph."""
    node = graph.nodes[name]
    graph.nodes[name] = replace(node, op=replace(node.op, **fields))  # type: ignore[type-var]


def spoil_gelu(graph: Graph) -> None:
    """Let the other approximation stand for a function."""
    graph.nodes["4"] = replace(
        graph.nodes["4"], op=Function("gelu", lambda x: F.gelu(x, approximate="tanh"))
    )


def nudge(values: np.ndarray, by: float) -> np.ndarray:
    """Return values, the last of which is another one."""
    changed = values.copy()
    changed.flat[-1] += by
    return changed


SPOILED: dict[str, tuple[str, Callable[[Graph], None]]] = {
    "shift of the input": ("2", lambda g: change(g, "0.sub", shift=-0.3 * np.ones(3) * 1.001)),
    "padding": ("2", lambda g: change(g, "1", padding=(0, 1, 1, 0))),
    "weight": ("2", lambda g: change(g, "2", weight=nudge(g.nodes["2"].op.weight, 1e-3))),  # type: ignore[union-attr]
    "bias": ("2", lambda g: change(g, "2", bias=nudge(g.nodes["2"].op.bias, 1e-4))),  # type: ignore[union-attr]
    "epsilon": ("2", lambda g: change(g, "3", scale=g.nodes["3"].op.scale * (1 - 5e-4))),  # type: ignore[union-attr]
    "approximation": ("2", spoil_gelu),
    "sum": (
        "5.a",
        lambda g: g.nodes.update({"5.add": replace(g.nodes["5.add"], inputs=("5.a", "5.a"))}),
    ),
    "divisor": ("6", lambda g: change(g, "6", gain=0.2501)),
    "slice": ("7.slice", lambda g: change(g, "7.pad", channels=(-1, -1, 0, 1, 2, 3, 4, 5))),
    "window": ("8", lambda g: change(g, "8", kernel=(1, 2), stride=(2, 1))),
    "features": ("10", lambda g: change(g, "10", weight=g.nodes["10"].op.weight[:, ::-1].copy())),  # type: ignore[union-attr]
}
"""An error in each node of the network, and the layer where it shows."""


def test_a_right_graph_passes() -> None:
    module = network()
    check(module, capture(export_module(module, SHAPE)))


@pytest.mark.parametrize("name", SPOILED)
def test_a_wrong_node_is_named(name: str) -> None:
    layer, spoil = SPOILED[name]
    module = network()
    graph = capture(export_module(module, SHAPE))
    spoil(graph)
    message = (
        rf"layer '{layer}[^']*': its float values must be the module's, not \S+ where it gives"
    )
    with pytest.raises(NupesError, match=message):
        check(module, graph)


def tokens() -> nn.Module:
    """Return linear layers, a norm and attention of tokens."""
    torch.manual_seed(0)
    forward = Call(
        lambda s, x: s.c(x + F.scaled_dot_product_attention(*s.b(x).chunk(3, -1))),
        b=nn.Linear(4, 12), c=nn.Linear(4, 3),
    )  # fmt: skip
    return nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), forward).eval()


TOKENS: dict[str, tuple[str, Callable[[Graph], None]]] = {
    "first layer": ("0", lambda g: change(g, "0", bias=nudge(g.nodes["0"].op.bias, 1e-4))),  # type: ignore[union-attr]
    "epsilon": ("1", lambda g: change(g, "1", epsilon=g.nodes["1"].op.epsilon * 100)),  # type: ignore[union-attr]
    "values": (
        "2.attention",
        lambda g: change(
            g,
            "2.b.value",
            weight=nudge(g.nodes["2.b.value"].op.weight, 1e-2),  # type: ignore[union-attr]
        ),
    ),
    "last layer": ("2.c", lambda g: change(g, "2.c", weight=nudge(g.nodes["2.c"].op.weight, 1e-3))),  # type: ignore[union-attr]
}
"""An error in each node of a network of tokens, and the layer where it shows."""


@pytest.mark.parametrize("name", TOKENS)
def test_a_wrong_node_of_tokens_is_named(name: str) -> None:
    layer, spoil = TOKENS[name]
    module, x = tokens(), np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)
    check(module, capture(export_module(module, x.shape)), x)
    graph = capture(export_module(module, x.shape))
    spoil(graph)
    with pytest.raises(NupesError, match=rf"layer '{layer}[^']*': its float values must be the"):
        check(module, graph, x)


def test_steps_of_the_fuser_are_no_error() -> None:
    """A norm that is read and added is two stages, the second one of no node."""
    torch.manual_seed(0)
    add = Call(lambda s, x: x + s.b(s.a(x).relu()), a=nn.Linear(4, 6), b=nn.Linear(6, 4))
    module = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), add, nn.LayerNorm(4), nn.Linear(4, 3))
    x = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)
    graph = capture(export_module(module.eval(), x.shape))
    network = fuse(graph)
    assert {stage.name for stage in network.stages} - graph.nodes.keys() == {"1.stream"}
    verify_capture(module, graph, network, Batch((torch.from_numpy(x),)))


def test_quantize_checks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = HANDLERS["rsub"]

    def lying(call: Any, input: Any, other: Any, alpha: float) -> str:
        return honest.translate(call, input=input, other=other)

    monkeypatch.setitem(HANDLERS, "rsub", replace(honest, translate=lying))
    module = Call(lambda s, x: torch.rsub(s.a(x), 3.0, alpha=2.0), a=conv())
    with pytest.raises(NupesError, match="layer 'a': its float values must be the module's"):
        nupes.quantize(module, "W4A4", images(*SHAPE), method="rtn")


def test_the_shape_of_a_layer_is_compared() -> None:
    module = network()
    graph = capture(export_module(module, SHAPE))
    change(graph, "8", padding=(1, 1, 0, 0))
    with pytest.raises(
        NupesError, match=r"layer '8': its float values must have shape \(8, 1, 1\)"
    ):
        check(module, graph)


def test_the_program_is_compared_with_the_module() -> None:
    module = Call(lambda s, x: s.a(x) * 2, a=conv())
    graph = capture(export_module(module, SHAPE))
    module.function = lambda s, x: s.a(x) * 2.01
    with pytest.raises(NupesError, match="captured program must give the module's output, not"):
        check(module, graph)


def deep(growth: float = 4) -> nn.Module:
    """Return a network in which rounding errors grow from layer to layer."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(30):
        layer = conv(3, 3, padding=1)
        layer.weight.data *= growth
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers)


def test_a_network_that_makes_all_of_rounding_is_compared_in_its_own_types() -> None:
    module, x = deep(8).eval(), torch.from_numpy(images(*SHAPE))
    with torch.no_grad():
        rounded = module(x).double()
        assert (rounded - deep(8).double().eval()(x.double())).abs().max() > 0.1
    graph = capture(export_module(module, SHAPE))
    check(module, graph)
    with pytest.raises(NupesError, match="captured program must give the module's output, not"):
        check(deep(9).eval(), graph)


def cancelling() -> nn.Module:
    """Return a batch norm whose mean is all that its convolution's bias gives."""
    torch.manual_seed(0)
    module = nn.Sequential(conv(), nn.BatchNorm2d(6))
    module[0].bias.data += 1e4  # type: ignore[union-attr, operator]
    module[1].running_mean.fill_(1e4)  # type: ignore[union-attr, operator]
    return module


def tail() -> nn.Module:
    """Return a GELU of its input, as a convolution with a factor has rounded it."""
    module = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.GELU())
    module[0].weight.data = 1.1 * torch.eye(3).reshape(3, 3, 1, 1)
    return module


def find_step() -> float:
    """Return an input of ``tail`` at which a GELU jumps, because ``1 + erf(x)`` has few digits."""
    x = torch.linspace(-8.2, -8.0, 1_000_001, dtype=torch.float64)
    jumps = (F.gelu(x) / x).diff().abs().argmax()
    return float(x[jumps]) / 1.1


STEP = find_step()


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (Call(lambda s, x: s.a((x - 120) / 60).tanh(), a=conv()), images(*SHAPE, low=0, high=255)),
        (Call(lambda s, x: s.a(x - 1000), a=conv()), images(*SHAPE, low=999, high=1001)),
        (deep(), images(*SHAPE)),
        (cancelling(), images(*SHAPE)),
        (network().bfloat16(), images(*SHAPE)),
        (network().half(), images(*SHAPE)),
        (network().double(), images(*SHAPE)),
        (nn.Sequential(conv(), Call(lambda s, x: torch.floor(4 * x))), images(*SHAPE)),
        (nn.Sequential(conv(), Call(lambda s, x: torch.sigmoid(x * 1e3))), images(*SHAPE)),
        (tail(), images(*SHAPE, low=STEP - 2e-6, high=STEP + 2e-6)),
        (network(), np.zeros(SHAPE, np.float32)),
        (network(), np.full(SHAPE, 7, np.float32)),
    ],
    ids="pixels offset deep cancelling bfloat16 half double steps tiny tail zero flat".split(),
)
def test_rounding_is_no_error(module: nn.Module, inputs: np.ndarray) -> None:
    check(module, capture(export_module(module, SHAPE)), inputs)


@pytest.mark.parametrize("batch", [1, 3, None])
def test_programs_of_any_batch(batch: int | None) -> None:
    dims = ({0: torch.export.Dim("batch")},) if batch is None else None
    example = torch.zeros(batch or 2, *SHAPE[1:])
    program = torch.export.export(network(), (example,), dynamic_shapes=dims)
    graph = capture(program)
    verify_capture(program, graph, fuse(graph), Batch((torch.from_numpy(images(*SHAPE)),)))


def test_a_network_that_overflows_is_named() -> None:
    def forward(self: Call, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x * 1e30)) * 1e30)

    module = Call(forward, a=conv(), b=conv(3, 6))
    with pytest.raises(InputError, match="layer 'a': its float values must be finite"):
        check(module, capture(export_module(module, SHAPE)))


def test_of_values_that_a_stage_may_give_the_nearest_is_taken() -> None:
    far, near = torch.full((2, 1, 3, 1), 0.9), torch.full((2, 1, 3, 1), 0.1)
    found = torch.zeros(6, dtype=torch.float64)
    assert match(found, torch.ones_like(found), [far, near, far]) is near
    assert match(found, torch.full_like(found, 0.01), [far, near]) is None
