"""Capture: an ``nn.Module`` or an exported program to the float graph, or an error that names the
operator.

Every operator is checked here, before any other work.
"""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.fx.node import map_arg

from nupes.model.errors import InputError, NupesError, UnsupportedError
from nupes.quantizer.frontend.aten import HANDLERS, IGNORED, SUPPORTED, Context, base_name
from nupes.quantizer.frontend.graph import Graph, Input, Node, Opaque

__all__ = ["Problem", "capture", "export_module"]


@dataclass(frozen=True)
class Problem:
    """An operator that cannot run: the path of its module, its name and why."""

    module: str
    operator: str
    reason: str


def export_module(module: nn.Module, shape: tuple[int, ...]) -> ExportedProgram:
    """Return the exported program of a module in evaluation mode, for one input (batch, c, h, w).

    The module's training flags are restored.
    """
    check_signature(module)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        parameter = next(module.parameters(), torch.zeros(()))
        example = torch.zeros(shape, dtype=parameter.dtype, device=parameter.device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run_once(module, example)
            return torch.export.export(module, (example,))
    except NupesError:
        raise
    except Exception as error:
        raise UnsupportedError(
            f"module {type(module).__name__} must be exportable by torch.export, not fail with: "
            f"{first_line(error)}"
        ) from error
    finally:
        for part, training in modes:
            part.training = training


def check_signature(module: nn.Module) -> None:
    """Refuse a module that needs more than one input."""
    parameters = inspect.signature(module.forward).parameters.values()
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 1:
        raise UnsupportedError(f"module must have one input, not {len(needed)}: {needed}")


def run_once(module: nn.Module, example: torch.Tensor) -> None:
    """Run a module on zeros; raise ``InputError`` if it does not take images of this shape."""
    try:
        with torch.no_grad():
            module(example)
    except Exception as error:
        raise InputError(
            f"module {type(module).__name__} must accept images of the calibration's shape "
            f"{tuple(example.shape[1:])}, not fail with: {first_line(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def functionalize(program: ExportedProgram) -> ExportedProgram:
    """Return the program without in-place operators."""
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    schemas = [target._schema for target in targets if isinstance(target, torch._ops.OpOverload)]
    if not any(schema.is_mutable for schema in schemas):
        return program
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program.run_decompositions({})


def capture(program: ExportedProgram, problems: list[Problem] | None = None) -> Graph:
    """Return the graph of an exported program with one input (batch, c, h, w) and one output.

    The first operator that cannot run raises; with a list, each one is appended to it instead and
    stands in the graph as ``Opaque``.
    """
    check_operators(program, problems)
    program = functionalize(program)
    check_operators(program, problems)
    constants = constant_inputs(program)
    signature = program.graph_signature
    if len(signature.user_inputs) != 1 or len(signature.user_outputs) != 1:
        raise UnsupportedError(
            f"module must have one input and one output tensor, not "
            f"{len(signature.user_inputs)} and {len(signature.user_outputs)}"
        )
    graph = Graph()
    context = Context(graph)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in constants:
            context.constants[node] = constants[node.name]
        elif node.op == "placeholder":
            context.values[node] = add_input(graph, node)
        elif node.op == "call_function" and base_name(node) not in IGNORED:
            convert(context, node, problems)
        elif node.op == "output":
            finish(context, node.args[0][0])
    return graph


def check_operators(program: ExportedProgram, problems: list[Problem] | None = None) -> None:
    """Refuse the first operator that no handler knows, unless it computes a constant; with a list
    of problems, list them all."""
    signature = program.graph_signature
    dynamic = set()
    for node in program.graph.nodes:
        if base_name(node) in IGNORED:
            continue
        if node.op == "placeholder" and node.name in signature.user_inputs:
            dynamic.add(node)
        elif node.op == "call_function" and any(arg in dynamic for arg in node.all_input_nodes):
            dynamic.add(node)
            if base_name(node) not in HANDLERS:
                if problems is None:
                    raise unsupported(node)
                add_problem(problems, node, "is not supported")


def add_problem(problems: list[Problem], node: fx.Node, reason: str) -> None:
    """List a call that cannot run; a module whose call has an entry already gets no second one.

    Functionalization gives the operators of a module other names.
    """
    path, is_layer = module_path(node)
    operator = base_name(node)
    if not any(
        item.module == path and (is_layer or operator.endswith(item.operator)) for item in problems
    ):
        problems.append(Problem(path, operator, reason))


def unsupported(node: fx.Node) -> UnsupportedError:
    """Return the error that names a node's operator and module and lists what there is."""
    return UnsupportedError(
        f"{describe(node)} is not supported; supported operators: {', '.join(SUPPORTED)}"
    )


def constant_inputs(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Return parameters, buffers and lifted constants by the name of their placeholder."""
    signature = program.graph_signature
    stores = {**program.constants, **program.state_dict}
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    for name in names.values():
        if stores[name].is_meta:
            raise InputError(f"parameter {name!r} must have values, not be on the meta device")
    return {placeholder: stores[name].detach().cpu() for placeholder, name in names.items()}


def add_input(graph: Graph, node: fx.Node) -> str:
    """Add the input node of a (batch, c, h, w) tensor."""
    shape = tuple(node.meta["val"].shape)
    if len(shape) != 4:
        raise UnsupportedError(
            f"module input must have shape (batch, channels, height, width), not {shape}"
        )
    channels, height, width = (int(size) for size in shape[1:])
    graph.nodes["input"] = Node("input", Input(), (), (height, width, channels))
    return "input"


def convert(context: Context, node: fx.Node, problems: list[Problem] | None = None) -> None:
    """Add one call to the graph: fold it if it is constant, else let its handler translate it.

    With a list of problems a refusal is listed. What reads a tensor without the shape of a map,
    which only a refused call gives, is not judged.
    """
    sources = node.all_input_nodes
    if all(source in context.constants for source in sources):
        args, kwargs = map_arg((node.args, node.kwargs), context.constants.__getitem__)
        assert callable(node.target)
        context.constants[node] = node.target(*args, **kwargs)
        return
    context.path, context.is_layer = module_path(node)
    context.where = describe(node)
    handler: Callable[[Context, fx.Node], str] | None = HANDLERS.get(base_name(node))
    if problems is None:
        assert handler is not None
        context.values[node] = handler(context, node)
        return
    try:
        if handler is not None and all(map_like(source) for source in sources):
            context.values[node] = handler(context, node)
            return
    except NupesError as error:
        add_problem(problems, node, str(error).removeprefix(f"{context.where}: "))
    inputs = tuple(context.values[source] for source in sources if source in context.values)
    kind = base_name(node)
    context.values[node] = context.add(Opaque(kind), inputs, opaque_shape(node), kind)


def map_like(node: fx.Node) -> bool:
    """Whether a value is constant data or a tensor (batch, c, h, w) or (batch, features)."""
    value = node.meta.get("val")
    return node.op == "placeholder" or (isinstance(value, torch.Tensor) and value.ndim in (2, 4))


def opaque_shape(node: fx.Node) -> tuple[int, int, int]:
    """Return the (h, w, c) that stands for the value of a refused call."""
    value = node.meta.get("val")
    sizes = [int(size) for size in value.shape[1:]] if isinstance(value, torch.Tensor) else []
    if len(sizes) == 3:
        return sizes[1], sizes[2], sizes[0]
    return 1, 1, int(np.prod(sizes))


def finish(context: Context, node: Any) -> None:
    """Record the network's output and its shape."""
    if node not in context.values:
        raise UnsupportedError("module output must depend on its input, not be a constant")
    graph = context.graph
    graph.output = context.values[node]
    graph.output_shape = tuple(int(size) for size in node.meta["val"].shape[1:])
    height, width, channels = graph.nodes[graph.output].shape
    if int(np.prod(graph.output_shape)) != height * width * channels:
        raise InputError("module output must keep the batch dimension")
    graph.prune()


def module_path(node: fx.Node) -> tuple[str, bool]:
    """Return the path of the module that made a call, and whether it is a layer of torch."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if not stack:
        return "", False
    path, kind = stack[-1]
    return path, str(kind).replace("<class '", "").startswith("torch.nn.modules")


def describe(node: fx.Node) -> str:
    """Return ``operator X in module 'path'`` for messages."""
    path, _ = module_path(node)
    place = f"module {path!r}" if path else "the top module"
    return f"operator {node.target} in {place}"
