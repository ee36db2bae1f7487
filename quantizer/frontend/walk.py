"""Capture: from the calls of a program to the float graph, or an error that names the operator.

Every operator is checked here, before any other work.
"""

from typing import Any, NoReturn

import numpy as np
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.fx.node import map_arg

from nupes.model.errors import InputError, NupesError, UnsupportedError
from nupes.model.host import has_channels_last
from nupes.quantizer.frontend.call import (
    Call,
    Values,
    concrete,
    full_shape,
    is_known,
    map_shape,
    value_shape,
)
from nupes.quantizer.frontend.factors import move_factors
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.graph import Graph, Input, Node
from nupes.quantizer.frontend.halves import take_in_halves
from nupes.quantizer.frontend.handlers.pointwise import translate_pointwise
from nupes.quantizer.frontend.handlers.views import translate_view
from nupes.quantizer.frontend.layouts import input_is_tokens, lacks_channel
from nupes.quantizer.frontend.liveness import keep_live_rows
from nupes.quantizer.frontend.problems import Problem, find_advice
from nupes.quantizer.frontend.products import join_products
from nupes.quantizer.frontend.program import Program, prepare
from nupes.quantizer.frontend.projections import split_projections
from nupes.quantizer.frontend.registry import (
    HANDLERS,
    arguments,
    base_name,
    is_pointwise,
    is_view,
    strangers,
    supported,
)
from nupes.quantizer.frontend.simplify import Examiner, join_chains
from nupes.quantizer.frontend.sums import join_constants
from nupes.quantizer.frontend.views import is_permutation

__all__ = ["Captured", "capture", "capture_program", "survey"]

IGNORED = {"sym_size", "_assert_tensor_metadata", "_guards_fn"}
"""Operators without a value that matters: shapes and checks of the capture."""

MOVES = {"getitem", "clone", "contiguous", "detach", "alias", "to", "_to_copy", "type_as"}
"""Operators that give values as they are, and are no views."""


class Captured:
    """A captured network and what keeps it from being one: the graph is whole only if there are no
    problems. ``judged`` says whether every operator could be looked at."""

    def __init__(self, graph: Graph, problems: list[Problem], judged: bool) -> None:
        self.graph = graph
        self.problems = problems
        self.judged = judged


def capture(exported: ExportedProgram) -> Graph:
    """Return the graph of an exported program; raise ``UnsupportedError`` at the first operator
    that cannot run."""
    return capture_program(prepare(exported))


def capture_program(program: Program) -> Graph:
    """Return the graph of a program; raise ``UnsupportedError`` at the first operator that cannot
    run."""
    return Walk(program).run()


def survey(exported: ExportedProgram) -> Captured:
    """Return the graph of an exported program together with every operator that cannot run."""
    walk = Walk(prepare(exported), [])
    graph = walk.run()
    assert walk.problems is not None
    return Captured(
        graph, [problem for _, problem in sorted(walk.problems, key=first)], walk.judged
    )


def first(pair: tuple[int, Any]) -> int:
    """Return the first of a pair."""
    return pair[0]


class Walk:
    """Visits the calls of a program once. With a list of problems a refusal is listed, and an
    unknown value stands for what the call gives, so that those behind it are found too."""

    def __init__(self, program: Program, problems: list[tuple[int, Problem]] | None = None) -> None:
        self.program = program
        self.problems = problems
        self.judged = True
        self.values = Values(Graph(program=program))
        self.order = {node: position for position, node in enumerate(program.graph.nodes)}

    def run(self) -> Graph:
        """Return the graph; it is whole if nothing was refused."""
        live = self.program.live()
        self.values.batch = concrete(full_shape(self.program.inputs[0])[0])
        for node in self.program.inputs:
            if node not in live and len(self.program.inputs) > 1:
                raise UnsupportedError(
                    f"module input {node.name!r} must be used by what the module returns; "
                    "leave it out"
                )
            self.add_input(node)
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node in live and node not in self.program.given:
                self.values.constants[node] = self.parameter(node)
            elif node.op == "call_function" and node in live and base_name(node) not in IGNORED:
                if node not in self.program.inputs:
                    self.visit(node)
        self.finish()
        return self.values.graph

    def add_input(self, source: fx.Node) -> None:
        """Add the node of an input, which is a map, a sequence or a vector; one of several is named
        after its argument."""
        shape = full_shape(source)
        if len(shape) not in (2, 3, 4):
            raise UnsupportedError(
                "module input must have shape (batch, channels, height, width), (batch, channels, "
                f"length), (batch, tokens, channels) or (batch, features), not {tuple(shape)}"
            )
        looked_up = source in self.program.lookups
        lone = len(shape) < 4 and not looked_up and lacks_channel(source)
        tokens = len(shape) == 3 and not lone and (looked_up or input_is_tokens(source))
        argument = self.program.source(source).name
        name = "input" if len(self.program.inputs) == 1 else f"input.{argument}"
        if name in self.values.graph.nodes:  # ids that are looked up in several tables
            name = f"input.{source.name}"
        sizes = (1,) * lone + value_shape(source)
        node = Node(name, Input(), (), map_shape(sizes, tokens))
        self.values.graph.nodes[node.name] = node
        self.values.names[source] = node.name
        self.values.graph.calls[node.name] = source
        if tokens:
            Call(source, self.values).lay_last()

    def parameter(self, node: fx.Node) -> torch.Tensor:
        """Return the value of a parameter, buffer or lifted constant."""
        value = self.program.constants[node]
        if value.is_meta:
            raise InputError(
                f"parameter {self.program.paths[node]!r} must have values, not be on the "
                "meta device"
            )
        return value.detach().cpu()

    def visit(self, node: fx.Node) -> None:
        """Fold a call if it is constant, else let its handler translate it."""
        call = Call(node, self.values)
        sources = node.all_input_nodes
        known = base_name(node) in HANDLERS or is_pointwise(node) or is_view(node)
        try:
            if not any(map(call.is_computed, sources)):
                check_constant(call)
                args, kwargs = map_arg((node.args, node.kwargs), self.known)
                assert callable(node.target)
                self.values.constants[node] = node.target(*args, **kwargs)
                return
            if not known:
                refuse_unknown(call)
            if any(source in self.values.moved for source in sources) and not moves(call):
                call.refuse("its operand must have the batch in dimension 0; move it back before")
            if self.can_judge(call):
                self.values.names[node] = name = translate(call)
                if is_whole_node(call):
                    self.values.graph.calls.setdefault(name, node)
                if self.values.origins.get(name) is node:
                    call.follow()
                return
            self.judged = False
        except NupesError as error:
            self.report(call, str(error), known)
        self.add_unknown(call)

    def known(self, value: fx.Node) -> Any:
        """Return a constant; of a size that varies that of the program's example."""
        constants = self.values.constants
        return constants[value] if value in constants else concrete(value.meta["val"])

    def can_judge(self, call: Call) -> bool:
        """Whether all that a call reads is known, or stands for a map or a vector."""
        return all(
            len(full_shape(value)) in (2, 3, 4) and all(map(is_known, full_shape(value)))
            for value in call.node.all_input_nodes
            if self.values.names.get(value) in self.values.unknown
        )

    def report(self, call: Call, message: str, known: bool) -> None:
        """Raise a refusal, or list it."""
        if self.problems is None:
            raise
        operator = call.kind.lstrip("_")
        last = call.node in self.program.outputs
        reason = message.removeprefix(f"{call.where}: ") if known else "is not supported"
        advice = find_advice(operator, known, last)
        problem = Problem(call.path, operator, reason, advice)
        self.problems.append((self.order[call.node], problem))

    def add_unknown(self, call: Call) -> None:
        """Add a node that stands for the value of a call that was not translated."""
        shape = value_shape(call.node)
        if len(shape) not in (1, 2, 3):
            shape = (int(np.prod(shape)),)
        last = len(shape) > 1 and any(
            call.is_last(value) and not call.is_first(value)
            for value in call.node.all_input_nodes
            if call.is_computed(value)
        )
        inputs = tuple(
            self.values.names[value]
            for value in call.node.all_input_nodes
            if value in self.values.names
        )
        name = call.add(Input(), inputs, map_shape(shape, last), call.kind)
        self.values.names[call.node] = name
        if last:
            call.lay_last()
        self.values.graph.calls[name] = call.node
        self.values.unknown.add(name)

    def finish(self) -> None:
        """Record the network's outputs and their shapes, and join functions."""
        graph = self.values.graph
        for output in self.program.outputs:
            if output not in self.values.names:
                raise UnsupportedError("module output must depend on its input, not be a constant")
            name, shape = self.settled(output), value_shape(output)
            size = np.prod(graph.nodes[name].shape)
            if not self.problems and np.prod(shape, dtype=int) != size:
                raise InputError("module output must keep the batch dimension")
            graph.outputs.append((name, shape))
            if is_whole_node(Call(output, self.values)):
                graph.calls.setdefault(name, output)
        changing = self.program.changing & self.values.constants.keys()
        if changing and not self.problems:
            raise UnsupportedError(
                f"buffer {min(node.name for node in changing)!r} must not change from call to call"
            )
        # A value that was laid in another order since is that of another node.
        names = self.values.names
        graph.calls = {name: call for name, call in graph.calls.items() if names[call] == name}
        graph.prune()
        join_constants(graph)
        split_projections(graph)
        keep_live_rows(graph)
        move_factors(graph)
        take_in_halves(graph)
        graph.prune()
        examiner = Examiner()
        join_chains(graph, examiner)
        join_products(graph)
        for node in graph.nodes.values():
            if isinstance(node.op, Function):
                call = Call(self.values.origins[node.name], self.values)
                try:
                    self.check_function(call, node.op, examiner)
                except NupesError as error:
                    self.report(call, str(error), known=True)
        graph.prune()

    def settled(self, output: fx.Node) -> str:
        """Return the name of the output's node; a view of which none can be made, or whose channels
        are elsewhere than the host has them, is reported."""
        call = Call(output, self.values)
        try:
            if output in self.values.moved:
                call.refuse("it must leave the batch dimension as it is")
            node = call.anywhere(output)
            last = has_channels_last(value_shape(output), node.shape)
            if not (call.is_last(output) if last else output not in call.views):
                raise UnsupportedError(
                    "module output must have its channels in dimension 1 or be a sequence of "
                    f"tokens, not be {tuple(full_shape(output))} with channels in an order that "
                    "its sizes do not tell; leave out the permutation or the flatten before it"
                )
        except NupesError as error:
            self.report(call, str(error), known=True)
        return self.values.names[output]

    def check_function(self, call: Call, function: Function, examiner: Examiner) -> None:
        """Refuse a function that no encoder can be."""
        if not call.node.meta["val"].dtype.is_floating_point:
            call.refuse(f"its result must be real numbers, not {call.node.meta['val'].dtype}")
        found, name = examiner.extremes(function), function.name
        if found.hole is not None:
            call.refuse(
                f"function {name!r} must have a value everywhere, not none at {found.hole:g}"
            )
        if found.turns > 1:
            call.refuse(
                f"function {name!r} must have at most one turning point, not {found.turns}: an "
                "encoder has two thresholds for each level"
            )


def is_whole_node(call: Call) -> bool:
    """Whether a call's value has all values of its node, each once, in any order."""
    places = call.views.get(call.node)
    if call.node in call.values.moved or isinstance(places, list):
        return False
    return places is None or is_permutation(places, call.viewed(call.node).shape)


def moves(call: Call) -> bool:
    """Whether a call gives values as they are, wherever the batch is."""
    return is_view(call.node) or call.kind in MOVES


def translate(call: Call) -> str:
    """Let a call's handler translate it; refuse arguments that the handler does not read."""
    handler = HANDLERS.get(call.kind)
    if handler is None:
        return translate_view(call) if is_view(call.node) else translate_pointwise(call)
    for name, (value, default) in strangers(call.node, handler).items():
        call.refuse(f"its argument {name!r} must be {default!r}, not {value!r}")
    given = arguments(call.node)
    return handler.translate(call, **{name: given[name] for name in handler.reads if name in given})


def refuse_unknown(call: Call) -> NoReturn:
    """Refuse an operator that has no handler."""
    raise UnsupportedError(
        f"{call.where} is not supported; supported operators: {', '.join(supported())}, pointwise "
        "functions of one tensor, and views of one"
    )


def check_constant(call: Call) -> None:
    """Refuse a constant that would be another one in each call of the module."""
    given = arguments(call.node)
    random = torch.Tag.nondeterministic_seeded in getattr(call.node.target, "tags", ())
    if random and given.get("train", given.get("training")) is not False:
        call.refuse("random numbers must not be drawn: they would be the same for every image")
