"""The self-check of capture: a fused float network against the module from which it was made.

Every stage is run in float32 on values that the captured program itself gives, in float64, for two
images, and must give a value of that program again; the last stage must give its output. As each
stage starts from right values, rounding does not add up with depth, and the bound is that of one
sum: ``MARGIN`` units of rounding of the largest magnitude that its terms can have (Higham, Accuracy
and Stability of Numerical Algorithms, 3.1, bounds it by as many units as there are terms; blocked
sums of random terms stay far below). A handler's error is larger by orders of magnitude.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NoReturn, TypeGuard

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.fx.node import map_aggregate
from torch.utils._pytree import tree_leaves

from nupes.model.errors import InputError, NupesError
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.call import full_shape
from nupes.quantizer.frontend.functions import IDENTITY
from nupes.quantizer.frontend.graph import Constant, Graph
from nupes.quantizer.frontend.program import Program, evaluation
from nupes.quantizer.frontend.registry import base_name
from nupes.quantizer.stages.joins import join_tensors
from nupes.quantizer.stages.masks import masking
from nupes.quantizer.stages.operators import column
from nupes.quantizer.stages.run import Maps, run_float
from nupes.quantizer.stages.stage import FusedNetwork, Stage

__all__ = ["verify_capture"]

UNIT = 2.0**-24
"""Unit of rounding of float32, in which stages run."""

MARGIN = 32
"""Units of rounding, of the largest sum of magnitudes, by which a stage's sum may be off."""

FINE_UNIT = 2.0**-53
"""Unit of rounding of float64, in which functions are evaluated: what cancels inside of one, as in
the tail of a GELU, is off by some of them."""

CLOSE = 1e-3
"""Part of the largest magnitude by which a value of the program and a stage's may differ where the
stage's may be none of the program."""

COMPARED = 1 << 17
"""Values of a stage that are compared, evenly spread: an error reaches more than one in so many."""

GLANCE = 256
"""Values by which most of what a stage may be is told apart from it."""

CHECKS = {"_assert_tensor_metadata", "_guards_fn"}
"""Calls that check types: in float64 these are others."""

DEFECT = "this is a defect of nupes, please report it"


@torch.no_grad()
def verify_capture(
    module: nn.Module | ExportedProgram, graph: Graph, network: FusedNetwork, inputs: Batch
) -> None:
    """Raise ``NupesError`` with the first layer whose float values are not those of the module.

    ``inputs`` (n, ...) are images, sequences, vectors or ids such as the module takes; of them one
    sample is used, and one that is made up in their range.
    """
    program = graph.program
    assert program is not None
    size = full_shape(program.inputs[0])[0]
    hidden = most_hidden(program, network, inputs)
    given = Batch(
        tuple(
            choose_images(part, size, number, hidden.get(number))
            for number, part in enumerate(inputs)
        )
    )
    images = program.enter(given)
    calls = {call for name, call in graph.calls.items() if name in graph.nodes}
    values = run_program(program, images, {*calls, *program.outputs})
    expected = [values[output].double() for output in program.outputs]
    compare_module(module, program, given, expected, largest(values.values()))
    check_stages(graph, network, images, values)


def most_hidden(program: Program, network: FusedNetwork, inputs: Batch) -> dict[int, int]:
    """Return which sample of an input that masks scores hides most keys, but not all, by the number
    of the input; of ids that are padding as well."""
    masks, found = masking(network), {}
    for node, number, entry in zip(program.inputs, program.numbers(), network.inputs, strict=True):
        if entry.name in masks:
            lookup, part = program.lookups.get(node), inputs.parts[number]
            values = part.float() if lookup is None else lookup(part)
            shown = (values == values.max()).flatten(1).sum(1)  # a mask is lower for what it hides
            found[number] = int(torch.where(shown == 0, shown.max() + 1, shown).argmin())
    return found


def choose_images(
    inputs: Tensor, batch: int | torch.SymInt, seed: int, hidden: int | None
) -> Tensor:
    """Return a batch (b, ...) of noise in the range of images, or of ids, and the first image in
    turn; of a mask, of which noise means nothing, one image by number, and the first one."""
    generator, first = torch.Generator().manual_seed(seed), inputs[:1].cpu()
    if first.is_floating_point():
        low, high = float(inputs.min()), float(inputs.max())
        if not low < high:
            low, high = low - 1, high + 1
        noise = low + (high - low) * torch.rand(first.shape, generator=generator)
    else:
        low, high = int(inputs.min()), int(inputs.max())
        noise = torch.randint(low, high + 1, first.shape, generator=generator)
    count = batch if isinstance(batch, int) else 2
    if hidden is not None:
        noise = inputs[hidden : hidden + 1].cpu()
    return torch.cat([noise, first] * count)[:count]


def run_program(
    program: Program, images: Batch, wanted: set[fx.Node], fine: bool = True
) -> dict[fx.Node, Tensor]:
    """Return wanted values of a program in float32, computed in float64 from constants that are
    folded in their own type, as the module has them; if not ``fine``, all in its own types."""
    live = program.live()
    values: dict[fx.Node, object] = {}
    found: dict[fx.Node, Tensor] = {}
    waiting = {node: sum(user in live for user in node.users) for node in live}

    def convert(argument: object) -> object:
        if isinstance(argument, fx.Node):
            value = values[argument]  # parameters stay as they are until they are used
            return value.double() if is_real(value) else value
        floating = isinstance(argument, torch.dtype) and argument.is_floating_point
        return torch.float64 if floating else argument

    def keep(argument: object) -> object:
        return values[argument] if isinstance(argument, fx.Node) else argument

    given = dict(zip(program.inputs, images, strict=True))
    computed = set(given)
    for node in program.graph.nodes:
        if node not in live or base_name(node) in CHECKS:
            continue
        if node in given:
            values[node] = given[node]
        elif node.op == "placeholder":
            values[node] = program.constants[node].cpu()
        elif node.op == "call_function":
            if computed.intersection(node.all_input_nodes):
                computed.add(node)
            change = convert if fine and node in computed else keep
            args, kwargs = map_aggregate((node.args, node.kwargs), change)  # type: ignore[misc]
            assert callable(node.target)
            value = node.target(*args, **kwargs)
            # The program's views were chosen for other layouts than those of float64 kernels.
            values[node] = value.contiguous() if isinstance(value, Tensor) else value
        if node in wanted:
            value = values[node]
            found[node] = (value if isinstance(value, Tensor) else value[0]).float()  # type: ignore[index]
        for source in () if node in given else node.all_input_nodes:
            waiting[source] -= 1
            if not waiting[source]:
                values.pop(source, None)
    return found


def is_real(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor of a floating-point type."""
    return isinstance(value, Tensor) and value.is_floating_point()


def compare_module(
    module: nn.Module | ExportedProgram,
    program: Program,
    given: Batch,
    expected: list[Tensor],
    magnitude: float,
) -> None:
    """Compare the captured program with the module itself, which runs in its own types: half of the
    digits of the coarsest must agree, as rounding does add up through a whole network. Where a
    network makes more of rounding than that, so must the program in these types."""
    if isinstance(module, ExportedProgram):
        return
    parameter = next(module.parameters(), torch.zeros(()))
    types = [node.meta["val"].dtype for node in program.given]
    moved = Batch(
        tuple(part.to(parameter.device, kind) for part, kind in zip(given, types, strict=True))
    )
    with evaluation(module):
        results = [result.cpu().double() for result in tree_leaves(module(*moved))]
    seen = [node.meta.get("val") for node in program.live()]
    real = {parameter.dtype, *(value.dtype for value in seen if is_real(value))}
    eps = max(2 * UNIT, *(torch.finfo(kind).eps for kind in real))
    limits = [eps**0.5 * largest([wanted]) + MARGIN * eps * magnitude for wanted in expected]
    difference = first_difference(expected, results, limits)
    if difference is not None:
        moved = program.enter(Batch(tuple(part.cpu() for part in moved)))
        own = run_program(program, moved, set(program.outputs), fine=False)
        difference = first_difference([own[y].double() for y in program.outputs], results, limits)
    if difference is not None:
        wanted, found = difference
        raise NupesError(
            f"captured program must give the module's output, not {wanted:g} where it gives "
            f"{found:g}; {DEFECT}"
        )


def first_difference(
    expected: Sequence[Tensor], results: Sequence[Tensor], limits: Sequence[float]
) -> tuple[float, float] | None:
    """Return the first two values that differ by more than their tensor's limit, if any do."""
    for wanted, found, limit in zip(expected, results, limits, strict=True):
        far = (found - wanted).abs() > limit
        if bool(far.any()):
            return float(wanted[far][0]), float(found[far][0])
    return None


def largest(values: Iterable[Tensor]) -> float:
    """Return the largest magnitude of tensors."""
    return max(max(-float(low), float(high)) for low, high in map(torch.aminmax, values))


def check_stages(
    graph: Graph, network: FusedNetwork, images: Batch, values: dict[fx.Node, Tensor]
) -> None:
    """Compare each stage, on right values, with the values of the program."""
    maps = network.maps(images)
    known = network.start(maps)
    reach = {
        entry.name: max(largest([known[entry.name]]), np.abs(entry.scale).max() * largest([part]))
        for entry, part in zip(network.inputs, maps, strict=True)
    }
    reach |= {item.name: largest([known[item.name]]) for item in network.constants}
    # Of a mask only counts what it hides: its numbers are added to none.
    root, masks = join_tensors(network).root, masking(network)
    reach |= dict.fromkeys(masks, 0.0)
    for stage in network.stages:
        y = run_float([replace(stage, function=IDENTITY)], known)[stage.name]
        height, width, channels = stage.shape
        if tuple(y.shape[1:]) != (channels, height, width):
            raise NupesError(
                f"layer {stage.name!r}: its float values must have shape "
                f"{(channels, height, width)}, not {tuple(y.shape[1:])}; {DEFECT}"
            )
        if stage.name in network.emitted:
            wanted = [name for name, _ in graph.outputs if graph.nodes[name].shape == stage.shape]
        else:
            fused = fused_nodes(graph, network, stage)
            wanted = [name for name in fused if graph.nodes[name].shape == stage.shape]
        wanted = [name for name in wanted if not isinstance(graph.nodes[name].op, Constant)]
        called = [name for name in wanted if name in graph.calls]
        found, allowed = evaluate(stage, y, rounding_error(stage, known, reach))
        emitted = stage.name in network.emitted
        own = stage.name not in graph.nodes and not emitted  # a step that the fuser has put in
        certain = len(called) == len(wanted) and not own
        assert certain or not emitted, "outputs are always compared"
        # A value that may be of a handler's own step is none of the program that is only similar.
        limit = allowed if certain else allowed.clamp(max=CLOSE * float(found.abs().max()))
        value = match(found, limit, [map_of(graph, name, values, y) for name in called])
        if value is None and certain:
            candidates = [map_of(graph, name, values, y) for name in called]
            raise_difference(stage, found, allowed, candidates)
        known[stage.name] = stage.function.apply(y) if value is None else value
        reach[stage.name] = largest([known[stage.name]])
        if value is None:  # a handler's own step, such as a sign, is no value of the program
            reach[stage.name] += float(allowed.max()) / (MARGIN * UNIT)
        if root[stage.name] in masks:
            reach[stage.name] = 0.0


def fused_nodes(graph: Graph, network: FusedNetwork, stage: Stage) -> list[str]:
    """Return the nodes of which a stage may give the value: its own one and those behind it that
    no stage is named after; of a step that the fuser has put in, any."""
    if stage.name not in graph.nodes:
        return list(graph.nodes)
    found = {stage.name}
    for node in graph.nodes.values():
        if node.name not in network.shapes and not found.isdisjoint(node.inputs):
            found.add(node.name)
    return [name for name in graph.nodes if name in found]


def map_of(graph: Graph, name: str, values: dict[fx.Node, Tensor], like: Tensor) -> Tensor:
    """Return the value of a node as a map (b, c, h, w) like another one."""
    call, rows = graph.calls[name], graph.cuts.get(name)
    value, places = values[call].flatten(1), graph.views.get(call)
    if isinstance(places, np.ndarray):
        value = value[:, torch.from_numpy(places.ravel().argsort())]
    if rows is None:
        return value.reshape(like.shape)
    batch, channels, _, width = like.shape
    return value.reshape(batch, channels, -1, width)[:, :, rows.start : rows.stop]


def rounding_error(stage: Stage, known: Maps, reach: dict[str, float]) -> Tensor:
    """Return the error that each channel's sum may have, (1, n, 1, 1) or (b, n, h, w)."""
    reaches = [reach[name] for name in stage.sources]
    largest_sum = np.reshape(stage.op.largest(*reaches), (1, -1, 1, 1))
    weight = stage.op.rounding(*(known[name] for name in stage.sources))
    sums = torch.from_numpy(largest_sum) + weight * sum(reaches)
    bound = column(np.abs(stage.gain)) * sums + column(np.abs(stage.bias))
    if stage.residual is not None:
        bound = bound + reach[stage.residual]
    return MARGIN * UNIT * bound.double()


def evaluate(stage: Stage, y: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Return some of a stage's values in float64, from its pre-activation, and how far they may be
    off if the pre-activation has an error."""
    function = stage.function.apply
    sample, error = some(y).double(), some(error.expand_as(y).contiguous())
    found = function(sample).double()
    if not bool(torch.stack([sample, found]).float().isfinite().all()):
        raise InputError(f"layer {stage.name!r}: its float values must be finite, not overflow")
    above, below = ((function(sample + sign * error) - found).abs() for sign in (1, -1))
    own = MARGIN * (UNIT * found.abs() + FINE_UNIT * sample.abs())
    return found, torch.maximum(above, below).nan_to_num_(0.0) + own


def some(values: Tensor) -> Tensor:
    """Return at most ``COMPARED`` values, evenly spread."""
    # An odd step, because an even one could miss every other column.
    return values.flatten()[:: values.numel() // COMPARED | 1]


def match(found: Tensor, allowed: Tensor, candidates: list[Tensor]) -> Tensor | None:
    """Return the value of the program that a stage gives, if there is one: of several that it may
    be, the nearest one."""
    parts = [some(value) for value in candidates]

    def is_near(part: Tensor, count: int) -> bool:
        return bool(((part[:count] - found[:count]).abs() <= allowed[:count]).all())

    # Most candidates of a deep network are far off from their first values on.
    counts = GLANCE, len(found)
    near = [i for i, part in enumerate(parts) if all(is_near(part, count) for count in counts)]
    nearest = min(near, key=lambda i: float((parts[i] - found).abs().max()), default=None)
    return None if nearest is None else candidates[nearest]


def raise_difference(
    stage: Stage, found: Tensor, allowed: Tensor, candidates: list[Tensor]
) -> NoReturn:
    """Raise the error of a stage that gives no value of the program; tell the nearest one."""
    excess = [(some(value) - found).abs() - allowed for value in candidates]
    nearest = min(range(len(excess)), key=lambda index: float(excess[index].max()))
    place = int(excess[nearest].argmax())
    raise NupesError(
        f"layer {stage.name!r}: its float values must be the module's, not {float(found[place]):g} "
        f"where it gives {float(some(candidates[nearest])[place]):g}; {DEFECT}"
    )
