"""Lowering: fused stages and calibration inputs to an integer network, one stage at a time.

Float and quantized values of the calibration inputs run side by side, so each layer's weights,
bias and ranges are chosen for the inputs that it will really read.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor as TorchTensor

from nupes.model.arithmetic import Y_RANGE
from nupes.model.errors import InputError
from nupes.model.network import InputEncoder, IntegerNetwork, Layer, Residual, Tensor
from nupes.model.operators import Conv, MaxPool, Operator, Select
from nupes.quantizer.activations import TensorCode, choose_activations, fixed_range
from nupes.quantizer.bits import BitPlan
from nupes.quantizer.evaluate import apply_function, apply_operator, column, input_moments
from nupes.quantizer.fuse import FusedNetwork, Stage
from nupes.quantizer.graph import Convolution, Pool
from nupes.quantizer.pointwise import build_encoder
from nupes.quantizer.requantize import fixed_point, lower_requantize, raise_scale
from nupes.quantizer.weights import Solver, choose_weights, output_error, round_to_nearest

__all__ = ["Lowering", "lower"]

HEADROOM = 2.0
"""How far beyond the calibrated pre-activations ``y`` reaches before it saturates."""

GRID = 4097
"""Points at which the clipping range of a function is looked for."""

Progress = Callable[[str, int, int], None]


@dataclass
class Lowering:
    """What the stages so far have become; ``exact`` and ``rounded`` are values of live tensors."""

    network: FusedNetwork
    plan: BitPlan
    family: str
    repair: bool
    solver: Solver
    tensors: dict[str, Tensor] = field(default_factory=dict)
    exact: dict[str, TorchTensor] = field(default_factory=dict)
    rounded: dict[str, TorchTensor] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    report: list[dict[str, Any]] = field(default_factory=list)

    def store(self, name: str, shape, code: TensorCode, exact: TorchTensor, real: TorchTensor):
        """Register a tensor with its float values, and the ones that ``real`` rounds to."""
        self.tensors[name] = Tensor(name, shape, code.codebook, code.scale)
        self.exact[name] = exact
        self.rounded[name] = round_values(real, code)


def round_values(values: TorchTensor, code: TensorCode | Tensor) -> TorchTensor:
    """Return values rounded to the levels of a codebook."""
    levels = torch.from_numpy(code.codebook.levels.astype(np.float32) * np.float32(code.scale))
    middle = (levels[1:] + levels[:-1]) / 2
    return levels[torch.bucketize(values.contiguous(), middle, right=True)]


def lower(
    network: FusedNetwork,
    inputs: TorchTensor,
    plan: BitPlan,
    family: str,
    metadata: dict[str, Any],
    *,
    repair: bool = False,
    solver: Solver = round_to_nearest,
    progress: Progress | None = None,
) -> IntegerNetwork:
    """Return the integer network of a fused network, calibrated on inputs (n, c, h, w).

    With ``repair`` each batch-normalised value is shifted and scaled to the statistics that its
    batch norm promises, so that made-up inputs give the ranges of real ones.
    """
    state = Lowering(network, plan, family, repair, solver)
    encoder = lower_input(state, inputs)
    readers = network.readers()
    with torch.no_grad():
        for index, stage in enumerate(network.stages):
            if progress is not None:
                progress(stage.name, index, len(network.stages))
            lower_stage(state, stage, last=index == len(network.stages) - 1)
            done = network.stages[: index + 1]
            for name in {stage.source, stage.residual} - {None}:
                if all(reader in done for reader in readers[name]):
                    del state.exact[name], state.rounded[name]
    if progress is not None:
        progress("", len(network.stages), len(network.stages))
    return IntegerNetwork(
        input=state.tensors[network.input.name],
        encoder=encoder,
        layers=tuple(state.layers),
        scale=float(state.report[-1]["y_scale"]),
        output_shape=network.output_shape,
        metadata={**metadata, "layers": state.report},
    )


def lower_input(state: Lowering, inputs: TorchTensor) -> InputEncoder:
    """Choose the code of the network's input and return the host's encoder, affine folded."""
    network, name = state.network, state.network.input.name
    values = inputs * column(network.input_scale) + column(network.input_shift)
    bits = state.plan.tensors[name]
    if bits == 8 or state.family == "uniform":
        code = fixed_range(float(values.min()), float(values.max()), bits)
    else:
        code = choose_activations(values.numpy(), bits, state.family, bool(values.min() < 0))
    state.store(name, network.input.shape, code, values, values)
    state.report.append({"name": name, "activations": describe_code(code, bits)})
    levels = code.codebook.levels.astype(np.float64)
    middle = (levels[:-1] + levels[1:]) / 2 * code.scale
    scale, shift = network.input_scale[:, None], network.input_shift[:, None]
    return InputEncoder((middle[None] - shift) / scale)


def lower_stage(state: Lowering, stage: Stage, last: bool) -> None:
    """Append one layer, and the tensor that it stores."""
    source = state.tensors[stage.source]
    exact, rounded = state.exact[stage.source], state.rounded[stage.source]
    entry: dict[str, Any] = {"name": stage.name}
    if isinstance(stage.op, MaxPool):
        code = TensorCode(source.codebook, source.scale, source.codebook.exponent)
        state.store(
            stage.name,
            stage.shape,
            code,
            apply_operator(stage, exact),
            apply_operator(stage, rounded),
        )
        state.layers.append(Layer(stage.name, stage.op, source.name, state.tensors[stage.name]))
        state.report.append(entry)
        return

    op, factor, weight = lower_operator(state, stage, rounded, entry)
    bias = stage.bias.copy()
    y_exact = apply_operator(stage, exact)
    y_rounded = apply_operator(stage, rounded, weight)
    if isinstance(stage.op, Convolution):
        # Bias correction: the mean output error over the calibration inputs goes in the bias.
        bias += (y_exact - y_rounded).double().mean((0, 2, 3)).numpy()
    y_exact, y_rounded = y_exact + column(stage.bias), y_rounded + column(bias)
    if state.repair and stage.mean is not None:
        gain, shift = repair_statistics(y_exact, stage)
        y_exact, y_rounded = y_exact * gain + shift, y_rounded * gain + shift
    skip = state.tensors[stage.residual] if stage.residual else None
    if skip is not None:
        y_exact = y_exact + state.exact[skip.name]
        y_rounded = y_rounded + state.rounded[skip.name]

    code = None
    if not last:
        code = choose_output(state, stage, source, y_exact, entry)
        state.store(
            stage.name,
            stage.shape,
            code,
            apply_function(stage, y_exact),
            apply_function(stage, y_rounded),
        )
    largest = max(float(y_exact.abs().max()), float(y_rounded.abs().max()), 0.0)
    reach = clipping_range(stage, code, largest)
    y_scale = raise_scale(reach / Y_RANGE[1], factor, bias, skip.scale if skip else None)
    encoder = None
    if code is not None:
        where = f"layer {stage.name!r}"
        encoder = build_encoder(stage.function, y_scale, code.codebook, code.scale, where)
    entry.update(y_scale=y_scale)
    state.report.append(entry)
    state.layers.append(
        Layer(
            name=stage.name,
            op=op,
            input=source.name,
            output=state.tensors.get(stage.name),
            requantize=lower_requantize(factor / y_scale, bias / y_scale),
            residual=lower_residual(skip, y_scale),
            encoder=encoder,
        )
    )


def lower_operator(
    state: Lowering, stage: Stage, rounded: TorchTensor, entry: dict[str, Any]
) -> tuple[Operator, np.ndarray, np.ndarray | None]:
    """Return the integer operator, the real value of one accumulator unit per channel, and the
    quantized weights."""
    scale = state.tensors[stage.source].scale
    op = stage.op
    if isinstance(op, Select):
        return op, stage.gain * scale, None
    if isinstance(op, Pool):
        return op.op, stage.gain * scale, None
    assert isinstance(op, Convolution)
    if not np.isfinite(op.weight).all() or not np.isfinite(op.bias).all():
        raise InputError(
            f"layer {stage.name!r}: folded weights must be finite, not NaN or infinite"
        )
    n = len(op.weight)
    grouped = op.weight.reshape(op.groups, n // op.groups, -1)
    bits = state.plan.weights[stage.name]
    family = "uniform" if bits == 8 else state.family
    moments = input_moments(op, rounded)
    codebook, solution = choose_weights(grouped, moments, bits, family, state.solver)
    codes = solution.codes.reshape(op.weight.shape)
    weight_scale = np.where(np.abs(op.weight).reshape(n, -1).any(1), solution.scale.reshape(n), 0.0)
    entry["weights"] = {
        "bits": bits,
        "family": codebook.family,
        "exponent": codebook.exponent,
        "relative_error": relative_error(solution.error, grouped, moments),
    }
    conv = Conv(codes, codebook, weight_scale, op.stride, op.padding, op.dilation, op.groups)
    return conv, weight_scale * scale, conv.levels * weight_scale.reshape(-1, 1, 1, 1)


def relative_error(error: np.ndarray, weight: np.ndarray, moments: np.ndarray) -> float:
    """Return the output error of a layer over its output's power."""
    power = float(output_error(weight, moments).sum())
    return float(error.sum()) / power if power > 0 else 0.0


def repair_statistics(y: TorchTensor, stage: Stage) -> tuple[TorchTensor, TorchTensor]:
    """Return the gain and shift per channel that give ``y`` the stage's mean and deviation."""
    assert stage.mean is not None
    assert stage.std is not None
    std, mean = torch.std_mean(y, (0, 2, 3), keepdim=True, unbiased=False)
    gain = torch.where(std > 1e-6, column(stage.std) / std.clamp_min(1e-6), torch.ones_like(std))
    return gain, column(stage.mean) - mean * gain


def choose_output(
    state: Lowering, stage: Stage, source: Tensor, y: TorchTensor, entry: dict[str, Any]
) -> TensorCode:
    """Return the code of the tensor that a stage stores; copied codes keep their source's."""
    bits = state.plan.tensors[stage.name]
    if stage.copies_codes:
        return TensorCode(source.codebook, source.scale, source.codebook.exponent)
    values = apply_function(stage, y).numpy()
    code = choose_activations(values, bits, state.family, signed=stage.low < 0)
    entry["activations"] = describe_code(code, bits)
    return code


def describe_code(code: TensorCode, bits: int) -> dict[str, Any]:
    """Return a tensor's bits, exponent and range for people."""
    levels = code.codebook.levels
    return {
        "bits": bits,
        "family": code.codebook.family,
        "exponent": code.exponent,
        "range": [float(levels[0] * code.scale), float(levels[-1] * code.scale)],
    }


def clipping_range(stage: Stage, code: TensorCode | None, largest: float) -> float:
    """Return the magnitude that ``y`` must reach: beyond it the code no longer changes, or no value
    is expected."""
    reach = HEADROOM * largest if largest > 0 else 1.0
    if code is None:
        return reach
    if stage.copies_codes:
        return float(np.abs(code.codebook.levels).max()) * code.scale
    grid = np.linspace(-reach, reach, GRID)
    codes = code.codebook.nearest(stage.function(grid) / code.scale).astype(np.int16)
    changes = np.flatnonzero(np.diff(codes))
    if len(changes) == 0:
        return reach
    step = grid[1] - grid[0]
    outermost = max(abs(grid[changes[0]]), abs(grid[changes[-1] + 1])) + step
    return min(reach, float(outermost))


def lower_residual(skip: Tensor | None, y_scale: float) -> Residual | None:
    """Return the residual of a stored tensor in units of ``y``."""
    if skip is None:
        return None
    mult, shift = fixed_point(np.array([skip.scale / y_scale]))
    return Residual(skip.name, int(mult[0]), int(shift[0]))
