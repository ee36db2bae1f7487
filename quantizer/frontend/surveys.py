"""Survey: what of a module will run and what will not, before any value is quantized.

A survey lists every operator that cannot run, not only the first, and the layers that the rest
becomes. ``skeleton`` turns the layers into an integer network without values, so that the compiler
can say whether they fit an array and about how many cycles they take.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn
from torch.export import ExportedProgram

from nupes.arch.cells import codebook_rule
from nupes.model.arithmetic import Y_RANGE
from nupes.model.codebook import Codebook, make_codebook
from nupes.model.errors import UnsupportedError
from nupes.model.network import (
    Encoder,
    InputEncoder,
    IntegerNetwork,
    Layer,
    Requantize,
    Residual,
    Tensor,
)
from nupes.model.operators import Operator
from nupes.model.summary import describe_operator
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.frontend.functions import IDENTITY, build_encoder
from nupes.quantizer.frontend.graph import Graph, Opaque, Shape
from nupes.quantizer.frontend.program import Problem, capture, export_module, module_path
from nupes.quantizer.options.bits import plan_bits
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.operators import Select
from nupes.quantizer.stages.stage import FusedNetwork, Stage, weighted

__all__ = ["Advised", "Survey", "SurveyedLayer", "advise", "skeleton", "survey"]

EXPORT_BATCH = 2

ADVICE = {
    "softmax": "leave it out: it changes no ranking; apply it to the result on the host",
    "log_softmax": "leave it out: it changes no ranking; apply it to the result on the host",
    "layer_norm": "train with BatchNorm2d, which folds into the layer before it",
    "group_norm": "train with BatchNorm2d, which folds into the layer before it",
    "instance_norm": "train with BatchNorm2d, which folds into the layer before it",
    "cat": "join branches with an addition",
    "concat": "join branches with an addition",
    "conv1d": "write it as Conv2d on maps of height 1",
    "conv3d": "only two-dimensional convolutions are supported",
    "adaptive_max_pool2d": "use MaxPool2d with a fixed kernel",
    "adaptive_avg_pool1d": "use AdaptiveAvgPool2d",
    "prelu": "use LeakyReLU with a fixed slope, or ReLU",
    "elu": "use SiLU, GELU or ReLU",
    "selu": "use SiLU, GELU or ReLU",
    "celu": "use SiLU, GELU or ReLU",
    "mish": "use SiLU, GELU or ReLU",
    "softplus": "use SiLU, GELU or ReLU",
    "scaled_dot_product_attention": "transformers are not supported",
    "matmul": "only products with constant weights are supported: Linear or Conv2d",
    "bmm": "only products with constant weights are supported: Linear or Conv2d",
    "mul": "remove the gate, or train without it: two computed tensors can only be added",
    "conv_transpose2d": "upsampling is not supported; let the network end before it",
    "upsample_nearest2d": "upsampling is not supported; let the network end before it",
    "upsample_bilinear2d": "upsampling is not supported; let the network end before it",
    "mean": "take the mean over height and width: x.mean((2, 3))",
}
"""What to do about an operator, by its name."""

REACH = 8.0
"""Magnitude up to which a skeleton's pre-activations reach: beyond it every function is flat or
straight."""

OTHERWISE = "replace it, or keep it on the host, before or after the network"


@dataclass(frozen=True)
class SurveyedLayer:
    """One layer of the integer network to be: shapes are (h, w, c), ``macs`` those of one image,
    ``parameters`` weights and biases after folding."""

    name: str
    operator: str
    input_shape: Shape
    output_shape: Shape
    macs: int
    parameters: int


@dataclass(frozen=True)
class Advised:
    """An operator that cannot run, and what to do about it."""

    module: str
    operator: str
    reason: str
    advice: str


@dataclass(frozen=True)
class Survey:
    """What of a module will run; ``network`` is None where something cannot."""

    layers: tuple[SurveyedLayer, ...]
    problems: tuple[Advised, ...]
    network: FusedNetwork | None

    @property
    def runs(self) -> bool:
        """Whether everything can run."""
        return not self.problems


def advise(problem: Problem) -> Advised:
    """Return a problem with what to do about it; a reason that says so itself stands alone."""
    own = problem.reason != "is not supported"
    advice = ADVICE.get(problem.operator, "" if own else OTHERWISE)
    return Advised(problem.module, problem.operator, problem.reason, advice)


def survey(
    module: nn.Module | ExportedProgram, input_shape: tuple[int, int, int] | None = None
) -> Survey:
    """Return what of a module will run on images of ``input_shape`` (channels, height, width); an
    exported program has its shape already.

    Raises ``InputError`` if the module does not take such images or a parameter is not finite.
    """
    problems: list[Problem] = []
    layers: tuple[SurveyedLayer, ...] = ()
    network = None
    try:
        if isinstance(module, ExportedProgram):
            program = module
        else:
            assert input_shape is not None
            program = export_module(module, (EXPORT_BATCH, *input_shape))
        graph = capture(program, problems)
        in_program_order(problems, program)
        network = fuse(graph)
        layers = tuple(list_layers(network, graph))
    except UnsupportedError as error:
        problems.append(Problem("", "", str(error)))
    return Survey(layers, tuple(map(advise, problems)), None if problems else network)


def in_program_order(problems: list[Problem], program: ExportedProgram) -> None:
    """Sort problems by where their modules stand in the program."""
    order: dict[str, int] = {}
    for node in program.graph.nodes:
        order.setdefault(module_path(node)[0], len(order))
    problems.sort(key=lambda problem: order[problem.module])


def list_layers(network: FusedNetwork, graph: Graph) -> list[SurveyedLayer]:
    """Return the layers of a fused network; what only leads out of a refused call is none."""
    shapes = {name: node.shape for name, node in graph.nodes.items()}
    shapes.update({stage.name: stage.shape for stage in network.stages})
    found = []
    operators = weighted(network.stages)
    for stage in network.stages:
        source = stage.sources[0]
        if source in graph.nodes and isinstance(graph.nodes[source].op, Opaque):
            if isinstance(stage.op, Select) and stage is network.stages[-1]:
                continue
        weights = operators[stage.name].weight if stage.name in operators else np.zeros(0)
        height, width, _ = stage.shape
        found.append(
            SurveyedLayer(
                stage.name,
                describe_stage(stage, shapes[source]),
                shapes[source],
                stage.shape,
                height * width * weights.size,
                weights.size + (len(stage.bias) if weights.size else 0),
            )
        )
    return found


def describe_stage(stage: Stage, source: Shape) -> str:
    """Return a stage in words: operator, window, stride, what is added and the function."""
    words = [describe_operator(bare_operator(stage, 8, 0), source)]
    if stage.residual is not None:
        words.append("add")
    if stage.function is not IDENTITY:
        words.append(stage.function.name)
    return " + ".join(words)


def skeleton(
    network: FusedNetwork, scheme: str, overrides: Mapping[str, str], cell: str = "decode"
) -> IntegerNetwork:
    """Return an integer network with a fused network's shapes and bits, codebooks that a kind of
    cells holds, and no values.

    It stands for the quantized one in front of the compiler: layers, bits and memories are the
    same; how many tables coincide is not known yet, so its cycles are an estimate. Raises
    ``UnsupportedError`` for a function that no encoder can hold.
    """
    plan = plan_bits(network, parse_scheme(scheme), 8, None, 8, overrides)
    first = Tensor(
        "input", network.input.shape, stand_in(plan.tensors["input"], False, 0, cell), 1.0
    )
    tensors = {first.name: first}
    channels = network.input.shape[2]
    thresholds = np.tile(np.arange(1.0, len(first.codebook)), (channels, 1))
    layers = []
    for index, stage in enumerate(network.stages, start=1):
        last = index == len(network.stages)
        (source,) = stage.sources
        read = tensors[source]
        codebook = (
            read.codebook
            if stage.copies_codes
            else stand_in(plan.tensors[stage.name], stage.low < 0, index, cell)
        )
        if not last:
            tensors[stage.name] = Tensor(stage.name, stage.shape, codebook, 1.0)
        output = tensors.get(stage.name)
        pooled = not stage.op.accumulates
        n = stage.shape[2]
        bits = plan.weights.get(stage.name, 8)
        residual = None if stage.residual is None else Residual(stage.residual, 1, 1)
        layers.append(
            Layer(
                stage.name,
                bare_operator(stage, bits, index, cell),
                source,
                output,
                None
                if pooled
                else Requantize(np.ones(n, np.int32), np.zeros(n, np.int64), np.ones(n, np.int32)),
                residual,
                None if pooled or last else plausible_encoder(stage, codebook),
            )
        )
    return IntegerNetwork(first, InputEncoder(thresholds), tuple(layers), 1.0, network.output_shape)


def stand_in(bits: int, signed: bool, index: int, cell: str, weight: bool = False) -> Codebook:
    """Return a codebook of some bits that a cell holds, another one for each index if it may."""
    rule = codebook_rule(cell, bits, signed, weight)
    if bits == 8 or rule.family == "uniform":
        return make_codebook("uniform", bits, signed)
    lmax = rule.lmax_of((1 << (bits - signed)) - 1) or (127 if signed else 255)
    exponent = rule.exponents[0] if rule.exponents else 0.5 + index % 64 / 128
    return make_codebook("power", bits, signed, lmax, exponent)


def plausible_encoder(stage: Stage, codebook: Codebook) -> Encoder:
    """Return a stage's encoder for values up to ``REACH``; a function that has none is refused."""
    largest = float(np.abs(codebook.levels).max())
    scale = min(REACH, max(abs(stage.function.low), stage.function.high)) / largest
    where = f"layer {stage.name!r}"
    return build_encoder(stage.function, REACH / Y_RANGE[1], codebook, scale, where)


def bare_operator(stage: Stage, bits: int, index: int, cell: str = "decode") -> Operator:
    """Return a stage's operator; the weights of a convolution are all the level nearest zero."""
    found = weighted([stage])
    if not found:
        return stage.op.lower(None)
    shape = found[stage.name].weight.shape
    codebook = stand_in(bits, True, index, cell, weight=True)
    code = int(np.abs(codebook.levels).argmin())
    return stage.op.lower(WeightCode(codebook, np.full(shape, code, np.uint8), np.ones(shape[0])))
