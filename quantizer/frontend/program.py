"""The captured program: an ``nn.Module`` exported by PyTorch, one call after another, none of which
changes a tensor in place."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from nupes.model.errors import InputError, UnsupportedError
from nupes.quantizer.frontend.multihead import plain_attention
from nupes.quantizer.frontend.mutation import replace_in_place
from nupes.quantizer.frontend.softmax import join_attention

__all__ = ["Program", "evaluation", "export_module", "prepare", "split_outputs"]


@dataclass(frozen=True, eq=False)
class Program:
    """Calls of ATen operators on one input (batch, c, h, w), which give one or several outputs.

    ``constants`` are parameters, buffers and lifted constants, as the module holds them, ``paths``
    where in it; ``changing`` are those that a call of the module changes.
    """

    graph: fx.Graph
    input: fx.Node
    outputs: tuple[fx.Node, ...]
    constants: dict[fx.Node, Tensor]
    paths: dict[fx.Node, str]
    changing: frozenset[fx.Node]

    def live(self) -> set[fx.Node]:
        """Return the nodes on which the outputs depend."""
        found, waiting = set(self.outputs), list(self.outputs)
        while waiting:
            new = [node for node in waiting.pop().all_input_nodes if node not in found]
            found.update(new)
            waiting += new
        return found


def export_module(module: nn.Module, shape: tuple[int, ...]) -> ExportedProgram:
    """Return the exported program of a module in evaluation mode, for one input (batch, c, h, w).

    The module's training flags are restored.
    """
    check_signature(module)
    parameter = next(module.parameters(), torch.zeros(()))
    example = torch.zeros(shape, dtype=parameter.dtype, device=parameter.device)
    with evaluation(module), plain_attention(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(module, (example,))
        except Exception as error:
            run_once(module, example)
            raise UnsupportedError(
                f"module {type(module).__name__} must be exportable by torch.export, not fail "
                f"with: {first_line(error)}"
            ) from error


@contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """Set a module to evaluation mode, and its training flags back at the end."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
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


def run_once(module: nn.Module, example: Tensor) -> None:
    """Run a module on zeros; raise ``InputError`` if it does not take images of this shape."""
    try:
        with torch.no_grad():
            module(example)
    except Exception as error:
        raise InputError(
            f"module {type(module).__name__} must accept images of shape "
            f"{tuple(example.shape[1:])}, not fail with: {first_line(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def prepare(exported: ExportedProgram) -> Program:
    """Return an exported program without in-place operators and wrapped regions, such as those of
    ``torch.no_grad``, attention as one operator; refuse one with several inputs."""
    inputs = exported.graph_signature.user_inputs
    if len(inputs) != 1:
        raise UnsupportedError(f"module must have one input tensor, not {len(inputs)}")
    graph = replace_in_place(exported.graph)
    if graph is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = exported.run_decompositions({})
        graph = exported.graph
    graph = join_attention(graph)
    signature = exported.graph_signature
    # The specifications stand in the order of the placeholders, which a copy may have renamed.
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    specs = list(zip(placeholders, signature.input_specs, strict=True))
    stores = {**exported.constants, **exported.state_dict}
    constants = {node: stores[spec.target] for node, spec in specs if spec.target in stores}
    paths = {node: spec.target for node, spec in specs if spec.target is not None}
    mutated = set(signature.buffers_to_mutate.values())
    changing = frozenset(node for node, spec in specs if spec.target in mutated)
    source = next(node for node, spec in specs if spec.kind == InputKind.USER_INPUT)
    results = graph.output_node().args[0]
    assert isinstance(results, list | tuple)
    outputs = []
    for spec, result in zip(signature.output_specs, results, strict=True):
        if spec.kind == OutputKind.USER_OUTPUT:
            if not isinstance(result, fx.Node) or "val" not in result.meta:
                raise UnsupportedError("module output must depend on its input, not be a constant")
            outputs.append(result)
    return Program(graph, source, tuple(outputs), constants, paths, changing)


def split_outputs(exported: ExportedProgram) -> list[Program]:
    """Return the program of each output of an exported program."""
    program = prepare(exported)
    return [replace(program, outputs=(output,)) for output in program.outputs]
