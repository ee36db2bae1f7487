"""The loaders of published weights: every array finds its place, in its own order of axes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nupes.examples.pretrained.dscnn import DSCNN, load_dscnn
from nupes.examples.pretrained.keras import SameConv, same_padding
from nupes.examples.pretrained.mobilenetv2 import MobileNetV2, load_mobilenetv2
from nupes.examples.pretrained.resnet8 import ResNet8, load_resnet8
from nupes.examples.pretrained.resnet20 import ResNet20, load_resnet20
from nupes.examples.pretrained.super_resolution import Espcn, Fsrcnn, load_espcn, load_fsrcnn


def scramble(network: nn.Module) -> None:
    """Give every parameter and statistic values of its own."""
    generator = torch.Generator().manual_seed(0)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)


def keras_layer(layer: SameConv, conv: str, norm: str) -> dict[str, np.ndarray]:
    """Return a layer's arrays under the names, and in the layouts, of Keras."""
    weight, depthwise = layer.conv.weight.detach().numpy(), layer.conv.groups > 1
    axes = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
    assert layer.conv.bias is not None
    found = {
        f"{conv}.{'depthwise_kernel' if depthwise else 'kernel'}": weight.transpose(axes),
        f"{conv}.bias": layer.conv.bias.detach().numpy(),
    }
    if isinstance(layer.norm, nn.BatchNorm2d):
        theirs = ("gamma", "beta", "moving_mean", "moving_variance")
        ours = ("weight", "bias", "running_mean", "running_var")
        state = layer.norm.state_dict()
        found |= {f"{norm}.{a}": state[b].numpy() for a, b in zip(theirs, ours, strict=True)}
    return found


def check(network: nn.Module, loaded: nn.Module) -> None:
    """Compare every parameter and statistic; the loaded network is ready to run."""
    assert not loaded.training
    state = loaded.state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_resnet8(tmp_path: Path) -> None:
    network = ResNet8()
    scramble(network)
    arrays: dict[str, np.ndarray] = {
        "dense.kernel": network.dense.weight.detach().numpy().T,
        "dense.bias": network.dense.bias.detach().numpy(),
    }
    norms = 0
    for index in range(9):
        suffix = f"_{index}" if index else ""
        layer = getattr(network, f"conv{suffix}")
        norm = f"batch_normalization{f'_{norms}' if norms else ''}"
        arrays |= keras_layer(layer, f"conv2d{suffix}", norm)
        norms += isinstance(layer.norm, nn.BatchNorm2d)
    assert norms == 7
    np.savez(tmp_path / "w.npz", allow_pickle=False, **arrays)
    check(network, load_resnet8(tmp_path / "w.npz"))


def test_dscnn(tmp_path: Path) -> None:
    network = DSCNN()
    scramble(network)
    arrays: dict[str, np.ndarray] = {
        "L18.kernel": network.dense.weight.detach().numpy().T,
        "L18.bias": network.dense.bias.detach().numpy(),
    }
    for index, layer in enumerate(network.layers):
        assert isinstance(layer, SameConv)
        arrays |= keras_layer(layer, f"L{2 * index}", f"L{2 * index + 1}")
    np.savez(tmp_path / "w.npz", allow_pickle=False, **arrays)
    check(network, load_dscnn(tmp_path / "w.npz"))


def test_resnet20(tmp_path: Path) -> None:
    network = ResNet20()
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    published = {name: value for name, value in state.items() if "normalize" not in name}
    torch.save({"state_dict": published}, tmp_path / "w.th")
    check(network, load_resnet20(tmp_path / "w.th"))


def test_mobilenetv2(tmp_path: Path) -> None:
    network = MobileNetV2()
    scramble(network.features)
    names = {name for name in network.state_dict() if not name.startswith("normalize.")}
    # A few of torchvision's names: of the first block, which does not expand, and of another.
    for name, shape in {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.1.1.running_var": (96,),
        "features.17.conv.3.weight": (320,),
        "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (1000, 1280),
    }.items():
        assert tuple(network.state_dict()[name].shape) == shape
    assert len(names) == 314
    state = {name: value for name, value in network.state_dict().items() if name in names}
    torch.save(state, tmp_path / "weights.pth")
    check(network, load_mobilenetv2(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (32, 3, 1, (1, 1)),
        (32, 3, 2, (0, 1)),
        (49, 10, 2, (4, 5)),
        (10, 4, 2, (1, 1)),
        (8, 1, 2, (0, 0)),
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    """As in the description of SAME in TensorFlow's documentation of tf.nn.convolution."""
    before, after = same_padding(size, kernel, stride)
    assert (before, after) == expected
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)


def test_keras_kernels_are_rows_columns_inputs_outputs() -> None:
    layer = SameConv(2, 3, (3, 3), (3, 3), norm=False, relu=False).eval()
    kernel = np.arange(54, dtype=np.float32).reshape(3, 3, 2, 3)
    layer.load(kernel, np.zeros(3, np.float32))
    image = torch.zeros(1, 2, 3, 3)
    image[0, 1, 0, 2] = 1.0  # the centre sees it with the tap of row 0, column 2, channel 1
    np.testing.assert_array_equal(layer(image)[0, :, 1, 1].detach().numpy(), kernel[0, 2, 1])


def test_super_resolution(tmp_path: Path) -> None:
    espcn, fsrcnn = Espcn(), Fsrcnn()
    for network, name, load in ((espcn, "espcn", load_espcn), (fsrcnn, "fsrcnn", load_fsrcnn)):
        scramble(network)
        convs = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
        slopes = [part for part in network.modules() if isinstance(part, nn.PReLU)]
        arrays = {f"alpha{n}": part.weight.detach().numpy() for n, part in enumerate(slopes, 1)}
        for number, conv in enumerate(convs, 1):
            assert conv.bias is not None
            arrays[f"f{number}"] = conv.weight.detach().numpy().transpose(2, 3, 1, 0)
            arrays[f"b{number}"] = conv.bias.detach().numpy()
        if name == "fsrcnn":  # one bias behind the pixel shuffle
            convs[-1].bias.data[:] = convs[-1].bias.data[0]  # type: ignore[union-attr]
            arrays["b8"] = arrays["b8"][:1]
        np.savez(tmp_path / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        check(network, load(tmp_path / f"{name}.npz"))
