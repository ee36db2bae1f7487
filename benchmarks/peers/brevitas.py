"""A peer outside this code: post-training quantization by Brevitas.

Per-channel weights, asymmetric activations per tensor, both with ranges by squared error, rounding
learned layer by layer, then biases corrected: the steps of Brevitas' own ImageNet example, whose
trainer it uses. Additions and biases stay in float. Needs ``pip install 'nupes[benchmarks]'``.
"""

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["quantize_brevitas"]

BATCH = 32
"""Images of one step, as many as here."""

STEPS = 200
"""Steps for each layer, as many as here."""

RATE = 1e-2
"""Learning rate of the rounding."""

RANGE_IMAGES = 256
"""Images that ranges are searched on; the search takes a second for each."""


def quantize_brevitas(
    module: nn.Module, weight_bits: int, activation_bits: int, images: np.ndarray, ends: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from images (n, c, h, w) to outputs (n, classes)."""
    warnings.simplefilter("ignore")
    from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
    from brevitas.graph.quantize import layerwise_quantize, preprocess_for_quantize

    torch.manual_seed(0)
    data = torch.from_numpy(images)
    model: Any = preprocess_for_quantize(
        copy.deepcopy(module).eval(), trace_model=True, merge_bn=True, equalize_iters=0
    )
    layers = [
        name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    model = layerwise_quantize(
        model, layer_map(weight_bits, activation_bits), name_blacklist=[layers[0], layers[-1]]
    )
    model = layerwise_quantize(model, layer_map(ends, ends))
    model(data[:2])
    some = data[:: max(1, len(data) // RANGE_IMAGES)]
    with calibration_mode(model):
        run(model, some)
    learn_rounding(model, data)
    with bias_correction_mode(model):
        run(model, data)
    return lambda images: run(model.eval(), torch.from_numpy(images)).numpy()


@torch.no_grad()
def run(model: nn.Module, images: Tensor) -> Tensor:
    """Return what a model gives for images, (n, classes)."""
    return torch.cat([model(part).flatten(1) for part in images.split(200)])


def layer_map(weight_bits: int, activation_bits: int) -> dict:
    """Return which quantized layer stands in for each kind of layer."""
    import brevitas.nn as quantized
    from brevitas.core.scaling.standalone import ParameterFromStatsFromParameterScaling
    from brevitas.quant.scaled_int import Int8WeightPerChannelFloatMSE
    from brevitas.quant.shifted_scaled_int import ShiftedUint8ActPerTensorFloatMSE

    options = {
        "weight_quant": Int8WeightPerChannelFloatMSE.let(
            bit_width=weight_bits,
            narrow_range=False,
            scaling_impl=ParameterFromStatsFromParameterScaling,
        ),
        "input_quant": ShiftedUint8ActPerTensorFloatMSE.let(bit_width=activation_bits),
        "bias_quant": None,
        "return_quant_tensor": False,
    }
    return {
        nn.Conv2d: (quantized.QuantConv2d, options),
        nn.Linear: (quantized.QuantLinear, options),
    }


def learn_rounding(model: nn.Module, images: Tensor) -> None:
    """Learn whether each weight is rounded up or down."""
    from brevitas_examples.common.learned_round.learned_round_args import (
        HandlerSpec,
        LossArgs,
        OptimizerArgs,
        TrainerConfig,
        TrainingArgs,
    )
    from brevitas_examples.common.learned_round.learned_round_method import LearnedRoundArgs
    from brevitas_examples.common.learned_round.learned_round_trainer import (
        LearnedRoundTrainer,
        get_blocks,
    )
    from brevitas_examples.imagenet_classification.ptq import learned_round_utils as vision

    training = TrainingArgs(
        optimizers_args=[
            OptimizerArgs(target_params="learned_round", optimizer_cls="Adam", lr=RATE)
        ],
        losses_args=[
            LossArgs(cls="round_reg", kwargs={"max_count": STEPS}),
            LossArgs(cls="mse", kwargs={"reduction": "none", "dim": 1}),
        ],
        batch_size=BATCH,
        iters=STEPS,
        use_best_model=False,
        use_amp=False,
    )
    handler = HandlerSpec[LearnedRoundArgs](
        name="learned_round",
        config=LearnedRoundArgs(learned_round_param="hard_sigmoid", learned_round_kwargs=None),
    )
    LearnedRoundTrainer(TrainerConfig(training_args=training, training_handlers=[handler])).train(
        model=model,
        model_forward=vision.vision_forward,
        block_forward=vision.vision_block_forward,
        data_loader=[(part, None) for part in images.split(BATCH)],
        cache=vision.CacheVision(),
        get_blocks_fn=partial(get_blocks, block_check_fn=vision.is_layer),
        keep_gpu=True,
    )
