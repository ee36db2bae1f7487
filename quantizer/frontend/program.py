"""The captured program: an ``nn.Module`` exported by PyTorch, one call after another, none of which
changes a tensor in place."""

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind, OutputKind

from nupes.model.errors import InputError, UnsupportedError
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.contractions import join_contractions
from nupes.quantizer.frontend.empties import leave_out_empty
from nupes.quantizer.frontend.flags import Inputs
from nupes.quantizer.frontend.folds import unfold_batch
from nupes.quantizer.frontend.key_masks import join_masks, mask_of
from nupes.quantizer.frontend.lookups import (
    Lookup,
    find_lookups,
    is_gather,
    join_lookups,
    leave_out_gathers,
    words_of,
)
from nupes.quantizer.frontend.masked_means import is_quotient, join_means
from nupes.quantizer.frontend.mixed_heads import join_mixed_heads
from nupes.quantizer.frontend.multihead import plain_attention
from nupes.quantizer.frontend.mutation import replace_in_place
from nupes.quantizer.frontend.prefixes import turn_all_tokens
from nupes.quantizer.frontend.registry import copy_graph
from nupes.quantizer.frontend.softmax import join_attention
from nupes.quantizer.frontend.stacked_sums import join_stacked_sums
from nupes.quantizer.frontend.unit_lengths import join_unit_rows
from nupes.quantizer.frontend.weighted_rows import join_weighted_rows
from nupes.quantizer.frontend.written_norms import join_norms

__all__ = [
    "Program",
    "count_inputs",
    "evaluation",
    "export_inputs",
    "export_module",
    "prepare",
    "split_outputs",
]


@dataclass(frozen=True, eq=False)
class Program:
    """Calls of ATen operators on inputs (batch, ...), which give one or several outputs.

    ``constants`` are parameters, buffers and lifted constants, as the module holds them, ``paths``
    where in it; ``changing`` are those that a call of the module changes. What the module is
    ``given`` are the inputs, but for ids: then they are the calls that look these up. ``flags`` are
    those of ones and zeros that mask keys.
    """

    graph: fx.Graph
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]
    constants: dict[fx.Node, Tensor]
    paths: dict[fx.Node, str]
    changing: frozenset[fx.Node]
    given: tuple[fx.Node, ...]
    lookups: dict[fx.Node, Lookup]
    flags: frozenset[fx.Node]

    @property
    def integers(self) -> set[fx.Node]:
        """What of the given is integers: ids, and ones and zeros."""
        return {*self.flags, *(lookup.source for lookup in self.lookups.values())}

    def source(self, node: fx.Node) -> fx.Node:
        """Return which of what the module is given an input comes from."""
        return self.lookups[node].source if node in self.lookups else node

    def numbers(self) -> list[int]:
        """Return of each input the number of what the module is given that it comes from."""
        return [self.given.index(self.source(node)) for node in self.inputs]

    def enter(self, batch: Batch) -> Batch:
        """Return the inputs for what the module is given, float32."""
        parts = []
        for node, number in zip(self.inputs, self.numbers(), strict=True):
            part, lookup = batch.parts[number], self.lookups.get(node)
            if node in self.flags and not bool(((part == 0) | (part == 1)).all()):
                raise InputError(
                    f"input {node.name!r} must be ones and zeros, as it masks keys, not "
                    f"{float(part.min()):g}..{float(part.max()):g}"
                )
            parts.append(part.float() if lookup is None else lookup(part))
        return Batch(tuple(parts))

    def live(self) -> set[fx.Node]:
        """Return the nodes on which the outputs depend."""
        found, waiting = set(self.outputs), list(self.outputs)
        while waiting:
            node = waiting.pop()
            if node in self.lookups:
                continue
            new = [source for source in node.all_input_nodes if source not in found]
            found.update(new)
            waiting += new
        return found


def count_inputs(module: nn.Module | ExportedProgram) -> int:
    """Return how many inputs a module needs, those of its arguments that have no default; of an
    exported program how many it has."""
    if isinstance(module, ExportedProgram):
        return len(inputs_of(module.graph, module.graph_signature))
    return max(1, len(needed_arguments(module)))


def export_module(
    module: nn.Module, *shapes: tuple[int, ...], integers: Sequence[bool] = ()
) -> ExportedProgram:
    """Return the exported program of a module in evaluation mode, for inputs of these shapes
    (batch, ...); ``integers`` says which of them are rather ids (batch, tokens) than real numbers,
    if it is known. Where the module does not take these, the others are tried.

    The module's training flags are restored.
    """
    needed = needed_arguments(module)
    if len(needed) > len(shapes):
        raise InputError(
            f"module must be given a shape for each of its {len(needed)} inputs "
            f"({', '.join(needed)}), not {len(shapes)}"
        )
    parameter = next(module.parameters(), torch.zeros(()))
    flat = tuple(len(shape) == 2 for shape in shapes)
    ways = [tuple(integers) or (False,) * len(shapes), (False,) * len(shapes), flat]
    examples = [
        tuple(
            torch.zeros(
                shape, dtype=torch.int64 if ids else parameter.dtype, device=parameter.device
            )
            for shape, ids in zip(shapes, way, strict=True)
        )
        for way in dict.fromkeys(ways)
    ]
    with evaluation(module), plain_attention(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        failures = []
        for given in examples:
            try:
                return torch.export.export(module, given)
            except Exception as error:
                failures.append(error)
        run_once(module, *examples[0])
        raise UnsupportedError(
            f"module {type(module).__name__} must be exportable by torch.export, not fail "
            f"with: {first_line(failures[0])}"
        ) from failures[0]


def export_inputs(
    module: nn.Module, *shapes: tuple[int, ...], integers: Sequence[bool] = ()
) -> ExportedProgram:
    """Return the exported program of a module as ``export_module`` does, integers being ids that
    are looked up, or ones and zeros that mask keys; others are real numbers."""
    exported = export_module(module, *shapes, integers=integers)
    values = [x.meta["val"] for x in inputs_of(exported.graph, exported.graph_signature)]
    taken = [isinstance(value, Tensor) and not value.is_floating_point() for value in values]
    if not any(taken):
        return exported
    program = prepare(exported)
    meant = [node in program.integers for node in program.given]
    if meant == taken:
        return exported
    try:
        return export_module(module, *shapes, integers=meant)
    except (InputError, UnsupportedError):
        return exported


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


def needed_arguments(module: nn.Module) -> list[str]:
    """Return the names of the arguments without which a module cannot be called."""
    return [
        parameter.name
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]


def run_once(module: nn.Module, *examples: Tensor) -> None:
    """Run a module on zeros; raise ``InputError`` if it does not take images of these shapes."""
    try:
        with torch.no_grad():
            module(*examples)
    except Exception as error:
        shapes = " and ".join(str(tuple(example.shape[1:])) for example in examples)
        raise InputError(
            f"module {type(module).__name__} must accept images of shape {shapes}, not fail with: "
            f"{first_line(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def prepare(exported: ExportedProgram) -> Program:
    """Return an exported program without in-place operators, wrapped regions, such as those of
    ``torch.no_grad``, tokens folded into the batch, and norms and attention written out; refuse
    inputs that are no tensors, or of several batch sizes."""
    graph = replace_in_place(exported.graph)
    if graph is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = exported.run_decompositions({})
        graph = exported.graph
    signature = exported.graph_signature
    check_inputs(inputs_of(graph, signature))
    # The specifications stand in the order of the placeholders, which a copy may have renamed.
    stores = {**exported.constants, **exported.state_dict}
    held = [stores.get(spec.target or "") for spec in signature.input_specs]
    graph = leave_out_empty(graph)
    graph = join_contractions(graph, inputs_of(graph, signature))
    graph = join_lookups(join_stacked_sums(graph))
    graph = join_unit_rows(graph)
    graph = unfold_batch(graph, inputs_of(graph, signature))
    graph = join_norms(turn_all_tokens(graph))
    graph = join_attention(join_mixed_heads(graph, held), held)
    graph = join_weighted_rows(graph)
    if any(mask_of(node) or is_quotient(node) or is_gather(node) for node in graph.nodes):
        graph = copy_graph(graph)
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    specs = list(zip(placeholders, signature.input_specs, strict=True))
    constants = {
        node: value for node, value in zip(placeholders, held, strict=True) if value is not None
    }
    paths = {node: spec.target for node, spec in specs if spec.target is not None}
    mutated = set(signature.buffers_to_mutate.values())
    changing = frozenset(node for node, spec in specs if spec.target in mutated)
    inputs = inputs_of(graph, signature)
    results = graph.output_node().args[0]
    assert isinstance(results, list | tuple)
    outputs = []
    for spec, result in zip(signature.output_specs, results, strict=True):
        if spec.kind == OutputKind.USER_OUTPUT:
            if not isinstance(result, fx.Node) or "val" not in result.meta:
                raise UnsupportedError("module output must depend on its input, not be a constant")
            outputs.append(result)
    known = Inputs(graph, inputs, words_of(graph, inputs, constants), constants)
    join_masks(graph, known)
    join_means(graph, known)
    flags = frozenset(known.flags)
    leave_out_gathers(graph, inputs, constants)
    lookups = find_lookups(graph, inputs, constants, flags)
    for node, item in known.tables.items():
        assert item.shown is not None
        lookups[node] = Lookup(item.source, item.shown)
    program = Program(
        graph, inputs, tuple(outputs), constants, paths, changing, inputs, lookups, flags
    )
    return replace(program, inputs=entered(program))


def entered(program: Program) -> tuple[fx.Node, ...]:
    """Return the inputs of a program in the order of what the module is given: what looks ids up in
    their place, and behind that what masks keys by them. An input that nothing reads stays."""
    live, found = program.live(), []
    for node in program.given:
        calls = [c for c, lookup in program.lookups.items() if lookup.source is node and c in live]
        ids = any(program.lookups[call].positions is None for call in calls)
        if calls and node in live and (ids or node not in program.flags):
            raise UnsupportedError(
                f"module input {node.name!r} is looked up in an embedding and must not be read "
                "again by an operator; give the module what that reads as an input of its own"
            )
        found += [*calls, node] if calls and node in live else calls or [node]
    return tuple(found)


def inputs_of(graph: fx.Graph, signature: ExportGraphSignature) -> tuple[fx.Node, ...]:
    """Return the inputs of an exported graph; what is no tensor and nothing reads, such as a number
    that was fixed when it was exported, is none."""
    placeholders = (node for node in graph.nodes if node.op == "placeholder")
    return tuple(
        node
        for node, spec in zip(placeholders, signature.input_specs, strict=True)
        if spec.kind == InputKind.USER_INPUT
        and (isinstance(node.meta.get("val"), Tensor) or node.users)
    )


def check_inputs(inputs: tuple[fx.Node, ...]) -> None:
    """Refuse inputs of a program of which no network can be made."""
    if not inputs:
        raise UnsupportedError("module must have an input tensor, not none")
    for node in inputs:
        value = node.meta.get("val")
        if not isinstance(value, Tensor) or value.ndim == 0:
            found = "a number" if isinstance(value, Tensor) else type(value).__name__
            raise UnsupportedError(
                f"module input {node.name!r} must be a tensor (batch, ...), not {found}; "
                "give it a default, or export the module without it"
            )
    sizes = [node.meta["val"].shape[0] for node in inputs]
    if any(size != sizes[0] for size in sizes):
        raise UnsupportedError(f"module inputs must have one batch size, not {sizes}")


def split_outputs(exported: ExportedProgram) -> list[Program]:
    """Return the program of each output of an exported program."""
    program = prepare(exported)
    return [replace(program, outputs=(output,)) for output in program.outputs]
