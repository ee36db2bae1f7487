"""The loaders of published weights: every array finds its place, in its own order of axes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from nupes.examples.pretrained.dscnn import DSCNN, load_dscnn
from nupes.examples.pretrained.keras import SameConv, same_padding
from nupes.examples.pretrained.llama import LlamaShape, load_llama
from nupes.examples.pretrained.minilm import BertShape, load_minilm
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


def bert_state(shape: BertShape, words: int) -> dict[str, torch.Tensor]:
    """Return random weights under the names of published encoders."""
    generator, state = torch.Generator().manual_seed(0), {}

    def draw(name: str, *size: int) -> None:
        state[name] = torch.randn(size, generator=generator)

    for table, rows in (("word", words), ("position", 2 * shape.tokens), ("token_type", 2)):
        draw(f"embeddings.{table}_embeddings.weight", rows, shape.width)
    norms, linears = ["embeddings.LayerNorm"], {}
    for layer in (f"encoder.layer.{i}" for i in range(shape.depth)):
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        linears |= {
            f"{layer}.attention.{part}": (shape.width, shape.width)
            for part in ("self.query", "self.key", "self.value", "output.dense")
        }
        linears[f"{layer}.intermediate.dense"] = (shape.hidden, shape.width)
        linears[f"{layer}.output.dense"] = (shape.width, shape.hidden)
    for name, size in (linears | {norm: (shape.width,) for norm in norms}).items():
        draw(f"{name}.weight", *size)
        draw(f"{name}.bias", size[0])
    return state


def bert(state: dict[str, torch.Tensor], shape: BertShape, ids: list[int]) -> torch.Tensor:
    """Return the tokens (t, c) of one sentence without padding, as Devlin et al. have them."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = state[f"{name}.LayerNorm.weight"], state[f"{name}.LayerNorm.bias"]
        return F.layer_norm(x, (shape.width,), weight, bias, shape.epsilon)

    x = state["embeddings.word_embeddings.weight"][ids]
    x = x + state["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + state["embeddings.token_type_embeddings.weight"][0], "embeddings")
    size = shape.width // shape.heads
    for layer in (f"encoder.layer.{i}" for i in range(shape.depth)):
        parts = [linear(x, f"{layer}.attention.self.{part}") for part in ("query", "key", "value")]
        heads = [
            (q @ k.T / size**0.5).softmax(-1) @ v
            for q, k, v in zip(*(part.split(size, -1) for part in parts), strict=True)
        ]
        mixed = linear(torch.cat(heads, -1), f"{layer}.attention.output.dense")
        x = norm(x + mixed, f"{layer}.attention.output")
        hidden = F.gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(hidden, f"{layer}.output.dense"), f"{layer}.output")
    return x


def test_minilm(tmp_path: Path) -> None:
    shape = BertShape(6, width=8, depth=2, heads=2, hidden=12)
    state = bert_state(shape, 10)
    save_file(state, tmp_path / "bert.safetensors")
    loaded = load_minilm(tmp_path / "bert.safetensors", shape)
    sentences = [[1, 5, 3], [2, 2, 9, 4, 7, 1]]
    with torch.no_grad():
        found = loaded.module(*loaded.inputs(sentences))
    expected = torch.stack([bert(state, shape, sentence).mean(0) for sentence in sentences])
    torch.testing.assert_close(found, expected)
    longer = [*sentences[1], 3, 8]  # the last ones have no place
    for part, other in zip(loaded.inputs([longer]), loaded.inputs(sentences[1:]), strict=True):
        assert torch.equal(part, other)


STORIES = LlamaShape(5, width=8, depth=2, heads=2, key_heads=1, hidden=6, words=10)


def llama_arrays(shape: LlamaShape) -> dict[str, np.ndarray]:
    """Return random weights by name, in the order of the file."""
    layers, width, keys = shape.depth, shape.width, shape.key_heads * shape.head
    sizes = {
        "words": (shape.words, width),
        "attention_norm": (layers, width),
        "q": (layers, width, width),
        "k": (layers, keys, width),
        "v": (layers, keys, width),
        "o": (layers, width, width),
        "ffn_norm": (layers, width),
        "w1": (layers, shape.hidden, width),
        "w2": (layers, width, shape.hidden),
        "w3": (layers, shape.hidden, width),
        "norm": (width,),
    }
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}


def llama(arrays: dict[str, np.ndarray], shape: LlamaShape, ids: list[int]) -> np.ndarray:
    """Return the logits (t, words) of a sequence, token after token, pairs as complex numbers."""

    def norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
        return x / np.sqrt(np.mean(x**2) + shape.epsilon) * gain

    def turned(x: np.ndarray, position: int) -> np.ndarray:
        pairs = x.reshape(-1, shape.head // 2, 2) @ [1, 1j]
        angles = position * 10000.0 ** (-2 * np.arange(shape.head // 2) / shape.head)
        pairs = pairs * np.exp(1j * angles)
        return np.stack([np.real(pairs), np.imag(pairs)], -1).reshape(-1, shape.head)

    keys: list[list[np.ndarray]] = [[] for _ in range(shape.depth)]
    values: list[list[np.ndarray]] = [[] for _ in range(shape.depth)]
    logits = []
    for position, token in enumerate(ids):
        x = arrays["words"][token].astype(np.float64)
        for layer in range(shape.depth):
            of = {name: stack[layer] for name, stack in arrays.items() if stack.ndim > 1}
            y = norm(x, of["attention_norm"])
            query = turned(of["q"] @ y, position)
            keys[layer].append(turned(of["k"] @ y, position))
            values[layer].append((of["v"] @ y).reshape(-1, shape.head))
            heads = []
            for head in range(shape.heads):
                shared = head * shape.key_heads // shape.heads
                scores = np.array([query[head] @ k[shared] for k in keys[layer]])
                shares = np.exp(scores / shape.head**0.5)
                taken = sum(w * v[shared] for w, v in zip(shares, values[layer], strict=True))
                heads.append(taken / shares.sum())
            x = x + of["o"] @ np.concatenate(heads)
            y = norm(x, of["ffn_norm"])
            gate = of["w1"] @ y
            x = x + of["w2"] @ (gate / (1 + np.exp(-gate)) * (of["w3"] @ y))
        logits.append(arrays["words"] @ norm(x, arrays["norm"]))
    return np.array(logits)


def test_llama(tmp_path: Path) -> None:
    shape, arrays = STORIES, llama_arrays(STORIES)
    sizes = (shape.width, shape.hidden, shape.depth, shape.heads, shape.key_heads, shape.words, 64)
    header = np.array(sizes, "<i4").tobytes()
    path = tmp_path / "stories.bin"
    path.write_bytes(header + b"".join(value.tobytes() for value in arrays.values()) + bytes(512))
    ids = [1, 7, 7, 0, 9]
    with torch.no_grad():
        found = load_llama(path, shape.tokens)(torch.tensor([ids]))[0]
    np.testing.assert_allclose(found, llama(arrays, shape, ids), rtol=1e-3, atol=1e-3)
    path.write_bytes(np.array((*sizes[:5], -shape.words, 64), "<i4").tobytes())
    with pytest.raises(ValueError, match="a head of its own"):
        load_llama(path, shape.tokens)
