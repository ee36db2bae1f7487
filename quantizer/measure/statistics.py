"""What quantization did to each layer, in numbers: the report in a network's metadata."""

import math
from typing import Any

import numpy as np
import torch

from nupes.quantizer.codes.decisions import Choices, TensorCode, WeightCode, round_values
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.stages.run import run_float, run_quantized
from nupes.quantizer.stages.stage import FusedNetwork, weighted

__all__ = ["describe"]

IMAGES = 64
"""Images on which outputs are compared."""


def describe(network: FusedNetwork, inputs: Batch, choices: Choices) -> list[dict[str, Any]]:
    """Return one entry per layer, those of inputs and constants first: its name; of its ``weights``
    and of the ``activations`` that it stores bits, family and exponent; ``sqnr`` values in dB, of
    its weights and of its output, all errors before it included; the ``range`` of the stored
    values; and the shares of weight codes ``moved`` from round-to-nearest and ``beyond`` floor and
    ceil.
    """
    picks = torch.linspace(0, len(inputs) - 1, min(IMAGES, len(inputs))).long()
    images = network.start(inputs[picks])
    exact = run_float(network.stages, images)
    real = run_quantized(network.stages, choices, images)
    report = [
        {"name": name, "activations": describe_tensor(choices.tensors[name])}
        for name in network.given
    ]
    operators = weighted(network.stages)
    for stage in network.stages:
        entry: dict[str, Any] = {"name": stage.name}
        if stage.name in operators:
            weight, code = operators[stage.name].weight, choices.weights[stage.name]
            entry["weights"] = describe_weights(weight, code)
        values = real[stage.name]
        if stage.name in choices.wide:
            values = choices.rounded(stage.name, values)
        if stage.name in choices.tensors:
            values = round_values(values, choices.tensors[stage.name])
            if not stage.copies_codes:
                entry["activations"] = describe_tensor(choices.tensors[stage.name])
        entry["sqnr"] = decibels(exact[stage.name].numpy(), values.numpy())
        report.append(entry)
    return report


def decibels(values: np.ndarray, approximation: np.ndarray) -> float | None:
    """Return the signal-to-quantization-noise ratio in dB; ``None`` if signal or noise is zero."""
    signal = float(np.square(values, dtype=np.float64).sum())
    noise = float(np.square(values.astype(np.float64) - approximation).sum())
    return round(10 * math.log10(signal / noise), 2) if signal > 0 and noise > 0 else None


def describe_tensor(code: TensorCode) -> dict[str, Any]:
    """Return a tensor's bits, family, exponent and range."""
    levels = code.codebook.levels
    return {
        "bits": code.codebook.bits,
        "family": code.codebook.family,
        "exponent": code.exponent,
        "range": [float(levels[0] * code.scale), float(levels[-1] * code.scale)],
    }


def describe_weights(weight: np.ndarray, code: WeightCode) -> dict[str, Any]:
    """Return a layer's bits, family, exponent, SQNR, and how far its codes went."""
    levels = code.codebook.levels.astype(np.float64)
    scale = np.where(code.scale > 0, code.scale, 1.0).reshape(-1, 1, 1, 1)
    nearest = code.codebook.nearest(weight / scale)
    position = np.interp(weight / scale, levels, np.arange(len(levels)))
    beyond = (code.codes > np.ceil(position)) | (code.codes < np.floor(position))
    return {
        "bits": code.codebook.bits,
        "family": code.codebook.family,
        "exponent": code.codebook.exponent,
        "sqnr": decibels(weight, code.real),
        "moved": float((code.codes != nearest).mean()),
        "beyond": float(beyond.mean()),
    }
