"""The proof: what the simulated hardware computed against the integer network, value by value and
cycle by cycle.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.markup import escape

from nupes.compiler.program import Program, compile
from nupes.model.layer import Layer, Post, Requantize
from nupes.model.names import free_name
from nupes.model.network import IntegerNetwork, Output
from nupes.model.operators import Select
from nupes.model.tensor import Port, Tensor, Wide
from nupes.sim import SimulationResult, Simulator
from nupes.sim.simulator import Images, each_input

__all__ = ["Check", "LayerCheck", "check_layers", "check_outputs", "observe", "summary"]

Count = Callable[[int, int], None]


@dataclass(frozen=True)
class LayerCheck:
    """One layer: predicted cycles, the measured cycles of every image that differ from them, and
    the images in which every stored value was compared and equal (None: not compared)."""

    name: str
    cycles: int
    unexpected_cycles: tuple[int, ...]
    values_compared: int | None = None
    values_exact: int | None = None

    @property
    def exact(self) -> bool:
        """Whether nothing that was compared differs."""
        return not self.unexpected_cycles and self.values_compared == self.values_exact


@dataclass(frozen=True)
class Check:
    """The comparison of a run: images whose outputs are all equal, measured cycles, every layer.
    Cycles are those of a ``batch`` of images.

    With ``bus`` the cycles include it: they are measured, not predicted, and do not count.
    """

    images: int
    exact_images: int
    predicted_cycles: int
    measured_cycles: tuple[int, ...]
    layers: tuple[LayerCheck, ...]
    bus: str | None = None
    batch: int = 1

    @property
    def exact(self) -> bool:
        """Whether nothing that was compared differs."""
        return (
            self.exact_images == self.images
            and (self.bus is not None or set(self.measured_cycles) == {self.predicted_cycles})
            and all(layer.exact for layer in self.layers)
        )

    @property
    def exact_layers(self) -> int:
        """Number of layers in which nothing differs."""
        return sum(layer.exact for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "exact": self.exact,
            "exact_layers": self.exact_layers,
            **asdict(self),
            "layers": [{"exact": layer.exact, **asdict(layer)} for layer in self.layers],
        }


def check_outputs(
    hw: Simulator, program: Program, images: Images, count: Count | None = None
) -> Check:
    """Run images and compare every output integer with the network's, and every layer's cycles with
    the prediction."""
    network = program.network
    codes = network.encode_all(*each_input(images))
    result, expected = hw.run(program, images, progress=count), network.run_all(*codes)
    number, pairs = len(codes[0]), zip(outputs_of(result), expected, strict=True)
    equal = np.all([(y == e).reshape(number, -1).all(axis=1) for y, e in pairs], axis=0)
    layers = []
    for index, layer in enumerate(program.layers):
        measured = result.layer_cycles[:, index]
        unexpected = tuple(sorted({int(value) for value in measured} - {layer.cycles}))
        unexpected = unexpected if hw.bus is None else ()
        layers.append(LayerCheck(layer.name, layer.cycles, unexpected))
    cycles = tuple(int(value) for value in result.cycles)
    exact = int(equal.sum())
    return Check(number, exact, program.cycles, cycles, tuple(layers), hw.bus, program.batch)


def outputs_of(result: SimulationResult) -> tuple[np.ndarray, ...]:
    """Return the ``y`` of every output."""
    return result.y if isinstance(result.y, tuple) else (result.y,)


def check_layers(
    hw: Simulator, program: Program, check: Check, images: Images, count: Count | None = None
) -> Check:
    """Return ``check`` with every value that each layer stores compared as well, for ``images``.

    The hardware has no port to its activation memory, so each layer gets a program of its own: the
    network up to that layer, and an identity tile that emits what it stored. The last layer stores
    nothing; its values are the outputs, which ``check_outputs`` compares.
    """
    network = program.network
    codes = network.encode_all(*each_input(images))
    stored = [(layer, values) for layer, values in network.trace(*codes)]
    layers = []
    for index, (layer, values) in enumerate(stored):
        before = check.layers[index]
        if layer.output.name in network.emitted:
            compared, exact = check.images, check.exact_images
        else:
            part = observe(network, index)
            probe = compile(part, program.array, program.latency, program.batch)
            expected = layer.output.levels(values).transpose(0, 3, 1, 2)
            *_, y = outputs_of(hw.run(probe, images))
            compared = len(codes[0])
            exact = int((y == expected).reshape(compared, -1).all(axis=1).sum())
        layers.append(
            LayerCheck(before.name, before.cycles, before.unexpected_cycles, compared, exact)
        )
        if count is not None:
            count(index + 1, len(stored))
    return Check(
        check.images,
        check.exact_images,
        check.predicted_cycles,
        check.measured_cycles,
        tuple(layers),
        check.bus,
        check.batch,
    )


def observe(network: IntegerNetwork, index: int) -> IntegerNetwork:
    """Return the network that ends after layer ``index`` with an identity, so that its last output
    is the levels which that layer stores; or without one, if it stores its results."""
    tensor = network.layers[index].output
    height, width, channels = tensor.shape
    layers = network.layers[: index + 1]
    given = {layer.output.name for layer in layers}
    outputs = tuple(output for output in network.outputs if output.tensor in given)
    if network.layers[index].wide:
        more = Output(tensor.name, (channels, height, width))
        return IntegerNetwork(network.inputs, layers, (*outputs, more), constants=network.constants)
    identity = Requantize(
        mult=np.full(channels, 2, np.int32),
        bias=np.zeros(channels, np.int64),
        shift=np.ones(channels, np.int32),
    )
    name = free_name("observed levels", network.names)
    levels = Tensor(name, tensor.shape, Wide(tensor.scale))
    last = Layer(name, Select.every(channels), (Port(tensor.name),), levels, Post(identity))
    return IntegerNetwork(
        network.inputs,
        (*layers, last),
        (*outputs, Output(name, (channels, height, width))),
        constants=network.constants,
    )


def summary(check: Check) -> str:
    """Return lines for people, with rich markup: what was compared, and what differs."""
    color = "green" if check.exact else "red"
    compared = [layer.values_compared or 0 for layer in check.layers]
    values = f"the values it stores in {min(compared)} images" if all(compared) else ""
    measured = ", ".join(f"{value:,}" for value in sorted(set(check.measured_cycles)))
    verdict = (
        f"{'bit-exact' if check.exact else 'MISMATCH'} {check.exact_images}/{check.images} images"
    )
    rules = ["an image is exact if every output integer of the RTL equals the integer model's"]
    if check.bus is None:
        also = f"{values} and " if values else ""
        rules.append(f"a layer if {also}its cycles in every image equal the prediction")
        cycles = f"predicted {check.predicted_cycles:,}, measured {measured}"
    else:
        rules += [f"a layer if {values} do"] if values else []
        more = max(check.measured_cycles) / check.predicted_cycles - 1
        without = f"predicted without a bus {check.predicted_cycles:,}"
        cycles = f"{without}, measured over {check.bus} {measured} ({more:+.2%})"
    if len(rules) > 1:
        verdict += f", {check.exact_layers}/{len(check.layers)} layers"
    lines = [
        f"[bold {color}]{verdict}[/]",
        "  " + ";\n  ".join(rules),
        f"cycles per {f'batch of {check.batch} images' if check.batch > 1 else 'image'}: {cycles}",
    ]
    for layer in check.layers:
        name = escape(layer.name)
        if layer.unexpected_cycles:
            lines.append(
                f"[red]layer {name}: predicted {layer.cycles:,} cycles, measured "
                f"{', '.join(f'{value:,}' for value in layer.unexpected_cycles)}[/]"
            )
        if layer.values_compared != layer.values_exact:
            lines.append(
                f"[red]layer {name}: values equal in {layer.values_exact} of "
                f"{layer.values_compared} images[/]"
            )
    return "\n".join(lines)
