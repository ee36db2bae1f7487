"""The networks of torchvision and timm, by rule and not by choice, with random weights.

All of torchvision's classification and segmentation networks, and of every module of timm the
network with the fewest parameters. Their weights are drawn from a seed; the statistics of batch
norms are those of random images, because with the ones that they start with the values of deep
networks grow or vanish.
"""

import copy
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from benchmarks.extras import bring

__all__ = [
    "KINDS",
    "LIBRARIES",
    "UNKNOWN",
    "build",
    "describe_network",
    "draw_images",
    "image_shape",
    "kind_of",
    "libraries",
    "names_of",
    "shorten",
    "smallest_networks",
]

LIBRARIES = ("torchvision", "timm")

SIZE = 224
"""Height and width of the images of torchvision's networks."""

IMAGES = 4
"""Images over which the statistics of batch norms are taken."""


KINDS = ("convolutional", "with attention or norms")
"""Kinds of networks."""

UNKNOWN = "not known"
"""The kind of a network that takes no images, or shows it only with values."""

ATTENTION = {
    *("layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm"),
    *("var", "var_mean", "std", "norm", "vector_norm", "linalg_vector_norm", "linalg_norm"),
    *("scaled_dot_product_attention", "multi_head_attention_forward", "bmm", "baddbmm"),
    *("matmul", "__matmul__", "einsum", "lstm", "gru"),
}
"""Functions of PyTorch that make a network one of attention, recurrence, or norms of each token or
image; a convolutional one calls none of them."""


def declare_operators() -> None:
    """Declare the two operators that torchvision's wheel for CUDA does not find beside a PyTorch
    for CPUs, and that its import asks for; no network here uses them."""
    schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", schema)


@cache
def libraries() -> tuple[Any, Any]:
    """Return timm, and the models of torchvision."""
    declare_operators()
    return bring("timm", "coverage"), bring("torchvision.models", "coverage")


def names_of(smallest: Iterable[str]) -> list[str]:
    """Return the networks as ``library/name``, of timm the smallest ones."""
    _, models = libraries()
    found = models.list_models(module=models)
    found += models.list_models(module=models.segmentation)
    return [f"torchvision/{name}" for name in found] + [f"timm/{name}" for name in smallest]


def smallest_networks() -> Iterator[tuple[str, str]]:
    """Yield every module of timm and its network with the fewest parameters."""
    timm, _ = libraries()
    for module in timm.list_modules():
        names = timm.list_models(module=module)
        counts = {name: count_parameters(f"timm/{name}") for name in names}
        if counts:
            name = min(counts, key=lambda name: (counts[name], name))
            yield module, name


def count_parameters(name: str) -> int:
    """Return the parameters of a network."""
    return sum(parameter.numel() for parameter in outline(name).parameters())


def outline(name: str) -> nn.Module:
    """Return a network without values, if it can do without."""
    try:
        with torch.device("meta"):
            return make(name)
    except (NotImplementedError, RuntimeError):
        return make(name)


def describe_network(name: str) -> dict[str, Any]:
    """Return the parameters and the kind of a network."""
    module = outline(name).eval()
    parameter = next(module.parameters())
    with parameter.device:
        try:
            kind = kind_of(module, image_shape(name, module))
        except Exception:  # of the libraries: it needs values, or other inputs
            kind = UNKNOWN
    return {"parameters": sum(part.numel() for part in module.parameters()), "kind": kind}


class Names(TorchFunctionMode):
    """The names of the functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note a function, and call it."""
        self.found.add(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def kind_of(module: nn.Module, shape: tuple[int, ...]) -> str:
    """Return the kind of a network, from what it calls for an image."""
    with Names() as names:
        module(torch.zeros(1, *shape))
    return KINDS[not names.found.isdisjoint(ATTENTION)]


def make(name: str) -> nn.Module:
    """Return a network as its library makes it, without weights of a training."""
    timm, models = libraries()
    library, network = name.split("/")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision's, about how they are initialised
        if library == "timm":
            return timm.create_model(network)
        if network in models.list_models(module=models.segmentation):
            return models.get_model(network, weights=None, weights_backbone=None)
        return models.get_model(network, weights=None)


def build(name: str, seed: int) -> nn.Module:
    """Return a network in evaluation mode, its weights drawn from a seed."""
    torch.manual_seed(seed)
    module = make(name).eval()
    settle_norms(module, draw_images(image_shape(name, module), IMAGES, seed))
    return module


def shorten(module: nn.Module, blocks: int, shape: tuple[int, ...]) -> nn.Module:
    """Return a network of which only so many of several equal blocks in a row are left, or the
    network itself where it does not run without the others."""
    short = copy.deepcopy(module)
    for part in short.modules():
        if isinstance(part, nn.Sequential | nn.ModuleList) and len(part) > blocks:
            kinds = {describe_block(block) for block in part}
            if len(kinds) == 1 and any(True for _ in part[0].children()):
                del part[blocks:]
    try:
        with torch.no_grad():
            short(torch.zeros(1, *shape))
    except Exception:  # of the library, which counts on all blocks
        return module
    return short


def describe_block(block: nn.Module) -> tuple[type, tuple[torch.Size, ...]]:
    """Return a block's type and the shapes of its parameters."""
    return type(block), tuple(parameter.shape for parameter in block.parameters())


def image_shape(name: str, module: nn.Module) -> tuple[int, ...]:
    """Return the shape of a network's images, as timm has it, or 3 x 224 x 224."""
    if name.startswith("timm/"):
        return tuple(module.default_cfg["input_size"])  # type: ignore[index]
    return (3, SIZE, SIZE)


def draw_images(shape: tuple[int, ...], count: int, seed: int) -> Tensor:
    """Return random images, normal as those are that networks of ImageNet are given."""
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def settle_norms(module: nn.Module, images: Tensor) -> None:
    """Draw the scales and shifts of all batch norms, and let their statistics be those of
    images."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
        if norm.affine:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0.0, 0.1)
    if norms:
        module(images)
    for norm in norms:
        norm.eval()
