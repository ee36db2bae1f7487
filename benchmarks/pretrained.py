"""The published networks and data that the benchmarks measure, from a directory of the user.

The directory holds ``cifar10/`` (``cifar10_test_first1000.npz``, ``cifar10_train_first2000.npz``,
``resnet20-12fca82f.th``) and ``mlperf_tiny/`` (``resnet8_float.npz``, ``dscnn_float.npz``,
``kws01_mfcc_int8.npz``), ``torchvision/`` (``mobilenet_v2-b0353104.pth``) and ``imagenet/``
(``calibration_250.zip``, ``test_500.zip``: JPEG files of 224x224, their class as the name) and
``transformers/`` (``vit_mnist_gpu.pt``, ``t10k-images-idx3-ubyte.gz``,
``t10k-labels-idx1-ubyte.gz`` and ``mnist_batch_0.png``, whose training images calibrate). Images
are float32 (n, c, h, w) in the range that the network expects.
"""

import gzip
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor, nn

from nupes.examples.pretrained.dscnn import load_dscnn
from nupes.examples.pretrained.mobilenetv2 import load_mobilenetv2
from nupes.examples.pretrained.resnet8 import load_resnet8
from nupes.examples.pretrained.resnet20 import load_resnet20
from nupes.examples.pretrained.vit import load_vit
from nupes.model.errors import InputError

__all__ = ["CONVOLUTIONAL", "NETWORKS", "Pretrained", "load_mnist", "load_pretrained"]

KEYWORD_CALIBRATION = 200
"""Keyword samples for calibration; the others are the test set."""

DELAY = 2
"""Most frames by which a keyword is shifted, of 49."""

HEADERS = 16, 8
"""Bytes in front of the images, and of the labels, of MNIST's files."""


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A trained module, images to calibrate it with, and labelled images to test it on; ``augment``
    makes more of the former."""

    name: str
    module: nn.Module
    calibration: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    augment: Callable[[Tensor, Generator], Tensor]


def load_pretrained(name: str, data: Path) -> Pretrained:
    """Return a network by name; raise ``InputError`` naming the file that is missing."""
    if name not in NETWORKS:
        raise InputError(f"network must be one of {', '.join(NETWORKS)}, not {name!r}")
    return NETWORKS[name](data)


def need(path: Path) -> Path:
    """Return a path that exists."""
    if not path.is_file():
        raise InputError(f"--data must hold {path.parent.name}/{path.name}; {path} is missing")
    return path


def cifar(data: Path, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return calibration images, test images and test labels of CIFAR-10, scaled from 0..255."""
    with np.load(need(data / "cifar10" / "cifar10_train_first2000.npz")) as train:
        calibration = train["x"]
    with np.load(need(data / "cifar10" / "cifar10_test_first1000.npz")) as test:
        images, labels = test["x"], test["y"]
    planes = (0, 3, 1, 2)
    return (
        (calibration.transpose(planes) * scale).astype(np.float32),
        (images.transpose(planes) * scale).astype(np.float32),
        labels,
    )


def mirror(images: Tensor, generator: Generator) -> Tensor:
    """Return images of which half are mirrored."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.reshape(-1, 1, 1, 1), images.flip(-1), images)


def delay(samples: Tensor, generator: Generator) -> Tensor:
    """Return keywords that come up to ``DELAY`` frames sooner or later; what leaves at one end
    enters at the other."""
    frames = torch.randint(-DELAY, DELAY + 1, (len(samples),), generator=generator).tolist()
    pairs = zip(samples, frames, strict=True)
    return torch.stack([sample.roll(count, 1) for sample, count in pairs])


def resnet20(data: Path) -> Pretrained:
    """Return ResNet-20 for CIFAR-10, images in 0..1."""
    module = load_resnet20(need(data / "cifar10" / "resnet20-12fca82f.th"))
    return Pretrained("resnet20", module, *cifar(data, 1 / 255), mirror)


def resnet8(data: Path) -> Pretrained:
    """Return ResNet-8 of MLPerf Tiny, images in 0..255."""
    module = load_resnet8(need(data / "mlperf_tiny" / "resnet8_float.npz"))
    return Pretrained("resnet8", module, *cifar(data, 1.0), mirror)


def dscnn(data: Path) -> Pretrained:
    """Return DS-CNN of MLPerf Tiny; calibration and test samples are disjoint."""
    module = load_dscnn(need(data / "mlperf_tiny" / "dscnn_float.npz"))
    with np.load(need(data / "mlperf_tiny" / "kws01_mfcc_int8.npz")) as archive:
        values = (archive["x"] - archive["in_zp"].astype(np.float32)) * archive["in_scale"]
        samples = values.astype(np.float32).transpose(0, 3, 1, 2)
        labels = archive["y"]
    cut = KEYWORD_CALIBRATION
    return Pretrained("dscnn", module, samples[:cut], samples[cut:], labels[cut:], delay)


def pictures(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of an archive in 0..1 and their classes, in the order of these."""
    with zipfile.ZipFile(need(path)) as archive:
        names = sorted(archive.namelist())
        images = [np.asarray(Image.open(archive.open(name)).convert("RGB")) for name in names]
    labels = np.array([int(Path(name).stem) for name in names])
    return np.stack(images).transpose(0, 3, 1, 2) / np.float32(255), labels


def mobilenetv2(data: Path) -> Pretrained:
    """Return MobileNetV2 for ImageNet, images in 0..1."""
    module = load_mobilenetv2(need(data / "torchvision" / "mobilenet_v2-b0353104.pth"))
    calibration, _ = pictures(data / "imagenet" / "calibration_250.zip")
    return Pretrained(
        "mobilenetv2", module, calibration, *pictures(data / "imagenet" / "test_500.zip"), mirror
    )


def load_mnist(data: Path) -> Pretrained:
    """Return the vision transformer for MNIST, digits in 0..1."""
    folder = data / "transformers"
    files = [need(folder / f"t10k-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1")]
    images, labels = (
        np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)
        for path, header in zip(files, HEADERS, strict=True)
    )
    rows = np.asarray(Image.open(need(folder / "mnist_batch_0.png")))[:, :, 0].astype(np.int16)
    rows += rows > 0  # pixels that are not 0 are 1 too low in this file
    calibration, test = (
        part.reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255) for part in (rows, images)
    )
    module = load_vit(need(folder / "vit_mnist_gpu.pt"))
    return Pretrained("vit", module, calibration, test, labels, lambda x, _: x)


CONVOLUTIONAL: dict[str, Callable[[Path], Pretrained]] = {
    "resnet8": resnet8,
    "resnet20": resnet20,
    "dscnn": dscnn,
    "mobilenetv2": mobilenetv2,
}

NETWORKS = {**CONVOLUTIONAL, "vit": load_mnist}
