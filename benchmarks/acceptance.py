"""What is measured of a network for its coverage: captured, accepted, equal on the RTL."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

import nupes
from benchmarks.alone import Result
from benchmarks.fitting import compile_fitting
from benchmarks.zoo import KINDS, build, draw_images, image_shape, kind_of, shorten
from nupes.arch.config import ArrayConfig
from nupes.inputs import quiet_torch
from nupes.quantizer.frontend.inspection import Inspection, inspect_module
from nupes.verify import check_outputs

__all__ = ["MEASURES"]

ARRAY = ArrayConfig(rows=16, cols=16, products=True, act_depth=1 << 20)
"""The array of convolutional networks; that of others has attention, too."""

SCHEME = "W4A4"

CALIBRATION = 2
"""Images from which the ranges of tensors come."""

SMALL = (32, 64, 96, 128, 160, 192, 224, 256)
"""Heights and widths of simulated images; the first one that a network takes."""


def check_network(name: str, seed: int, size: int, blocks: int = 0) -> Result:
    """Return what of a network will run: layers, MACs, parameters, or its problems; of equal blocks
    in a row only so many, if not 0, are left."""
    module = build(name, seed)
    shape = shape_of(name, module, size)
    module = shorten(module, blocks, shape) if blocks else module
    try:
        return describe(inspect(module, shape))
    except nupes.NupesError as error:
        return {"reason": str(error)}


def shape_of(name: str, module: nn.Module, size: int) -> tuple[int, ...]:
    """Return the shape of a network's images, its own or of a size."""
    channels, height, width = image_shape(name, module)
    return channels, size or height, size or width


def inspect(module: nn.Module, shape: tuple[int, ...]) -> Inspection:
    """Return what ``nupes check`` finds in a module."""
    with quiet_torch():
        return inspect_module(module, shape)


def describe(found: Inspection) -> Result:
    """Return what was found as data."""
    problems = ((problem.operator, problem.reason) for problem in found.problems)
    return {
        "layers": len(found.layers),
        "macs": sum(layer.macs for layer in found.layers),
        "parameters": sum(layer.parameters for layer in found.layers),
        "problems": list(dict.fromkeys(problems)),
    }


def quantize_network(name: str, seed: int, size: int) -> Result:
    """Return layers, MACs and cycles of a network that is quantized and compiled, or why it is not,
    with what ``nupes check`` says: of one that is accepted, the same layers."""
    module = build(name, seed)
    shape = shape_of(name, module, size)
    checked: Result = {}
    try:
        found = inspect(module, shape)
        checked = describe(found)
        network = quantize(module, shape, seed)
        program = nupes.compile(network, array_for(module, shape))
    except nupes.NupesError as error:
        return {"reason": str(error)} | checked
    if layers_of(network) != [(item.name, item.output_shape, item.macs) for item in found.layers]:
        return {"reason": "the layers of nupes check are others"} | checked
    return {
        "layers": len(program.layers),
        "macs": sum(layer.macs for layer in program.layers),
        "cycles": program.cycles,
    }


def layers_of(network: nupes.IntegerNetwork) -> list[tuple[str, tuple[int, ...], int]]:
    """Return name, shape of the output and MACs of every layer."""
    return [(item.name, item.output.shape, network.macs[item.name]) for item in network.layers]


def simulate_network(name: str, seed: int, size: int) -> Result:
    """Return whether a network's outputs and cycles on the RTL are those predicted, for one image
    of the smallest size that it takes."""
    module = build(name, seed)
    channels = image_shape(name, module)[0]
    reason = ""
    for side in (size,) if size else SMALL:
        shape = (channels, side, side)
        try:
            array = array_for(module, shape)
            program = compile_fitting(quantize(module, shape, seed), array)
        except nupes.NupesError as error:
            reason = str(error)
            continue
        with nupes.Simulator(program.array) as hw:
            found = check_outputs(hw, program, draw_images(shape, 1, seed + 1).numpy())
        return {"size": side, "exact": found.exact, "cycles": program.cycles}
    return {"reason": reason}


def array_for(module: nn.Module, shape: tuple[int, ...]) -> ArrayConfig:
    """Return the array for a network of its kind."""
    return replace(ARRAY, attention=kind_of(module, shape) != KINDS[0])


def quantize(module: nn.Module, shape: tuple[int, ...], seed: int) -> nupes.IntegerNetwork:
    """Return the integer network of a module for images of a shape."""
    images = draw_images(shape, CALIBRATION, seed).numpy()
    with quiet_torch():
        return nupes.quantize(module, SCHEME, calibration=images, method="rtn")


MEASURES: dict[str, Callable[..., Result]] = {
    "check": check_network,
    "accept": quantize_network,
    "simulate": simulate_network,
}
"""What is measured, by the name under which it is kept, of a network for images of a size, or 0 for
those that are its own."""
