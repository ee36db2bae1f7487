"""Ids of tokens and a mask of ones and zeros, from PyTorch to the RTL, a file and ONNX."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import nupes
from nupes.__main__ import main
from nupes.export.onnx import build_onnx
from nupes.export.qonnx import build_qonnx
from nupes.model.errors import InputError, UnsupportedError
from nupes.verify import check_layers, check_outputs

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, attention=True)

TOKENS, WORDS = 6, 20


class Encoder(nn.Module):
    """Embeddings and positions, a block, and classes of each token."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 8), nn.Embedding(TOKENS, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(TOKENS))
        return self.head(self.block(x, src_key_padding_mask=mask == 0))


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Return ids and lengths as masks."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, TOKENS + 1, (48, 1))
    return rng.integers(0, WORDS, (48, TOKENS)), (np.arange(TOKENS) < lengths).astype(np.int64)


@pytest.fixture(scope="module")
def network(data: tuple[np.ndarray, np.ndarray]) -> nupes.IntegerNetwork:
    """Return the integer network of an encoder."""
    torch.manual_seed(0)
    module = Encoder().eval()
    network = nupes.quantize(module, "W8A8", data, method="rtn")
    with torch.no_grad():
        expected = module(*map(torch.from_numpy, data)).numpy()
    assert np.square(network(*data) - expected).mean() < 0.01 * expected.var()
    return network


def test_every_value_on_the_rtl(
    running: Callable[..., nupes.Simulator],
    network: nupes.IntegerNetwork,
    data: tuple[np.ndarray, np.ndarray],
) -> None:
    program, hardware = nupes.compile(network, ARRAY), running(ARRAY)
    few = tuple(part[:2] for part in data)
    assert check_layers(hardware, program, check_outputs(hardware, program, few), few).exact


def test_the_table_goes_with_the_network(
    tmp_path: Path, network: nupes.IntegerNetwork, data: tuple[np.ndarray, np.ndarray]
) -> None:
    loaded = nupes.load(network.save(tmp_path / "encoder.safetensors"))
    assert loaded.inputs[0].lookup is not None
    assert loaded.inputs[0].lookup.shape == (WORDS, 8)
    np.testing.assert_array_equal(loaded(*data), network(*data))


def test_embeddings_may_be_given_in_place_of_ids(
    network: nupes.IntegerNetwork, data: tuple[np.ndarray, np.ndarray]
) -> None:
    torch.manual_seed(0)
    table = Encoder().words.weight.detach().numpy()
    np.testing.assert_array_equal(network(table[data[0]], data[1]), network(*data))


def test_masks_may_be_truth_values(data: tuple[np.ndarray, np.ndarray]) -> None:
    (ids, mask), module = data, Encoder().eval()
    networks = [
        nupes.quantize(module, "W8A8", (ids, some), method="rtn")
        for some in (mask, mask.astype(bool))
    ]
    np.testing.assert_array_equal(networks[1](ids, mask > 0), networks[0](ids, mask))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids: ids + WORDS, r"ids must lie in 0..19, the table of input 'input.ids', not 2"),
        (lambda ids: ids - WORDS, r"ids must lie in 0..19, the table of input 'input.ids', not -2"),
        (lambda ids: ids[:, 1:], r"ids must be integers of shape \(batch, 6\), not int64 of"),
        (lambda ids: ids * 1.0, r"ids must be integers of shape \(batch, 6\), not float64 of"),
    ],
)
def test_other_ids_are_refused(
    network: nupes.IntegerNetwork,
    data: tuple[np.ndarray, np.ndarray],
    change: Callable[[np.ndarray], np.ndarray],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        network(change(data[0]), data[1])


def test_ids_in_onnx(network: nupes.IntegerNetwork, data: tuple[np.ndarray, np.ndarray]) -> None:
    session = onnxruntime.InferenceSession(build_onnx(network).SerializeToString())
    names = {item.name.split("/")[0]: item.name for item in session.get_inputs()}
    mask = data[1].astype(np.float32)[:, :, None, None]
    (found,) = session.run(["y"], {names["ids"]: data[0], names["images"]: mask})
    np.testing.assert_array_equal(found, network.run(*network.encode_all(*data)))


class Placed(nn.Module):
    """Embeddings, positions that are counted by which ids are padding, a norm and classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.places = nn.Embedding(WORDS, 8), nn.Embedding(TOKENS + 2, 8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        shown = (ids != 1).long()
        return self.head(self.norm(self.words(ids) + self.places(shown.cumsum(1) * shown + 1)))


def test_positions_by_padding(
    running: Callable[..., nupes.Simulator], tmp_path: Path, data: tuple[np.ndarray, np.ndarray]
) -> None:
    ids, module = np.where(data[1], data[0], 1), Placed().eval()
    network = nupes.quantize(module, "W8A8", ids, method="rtn")
    with torch.no_grad():
        expected = module(torch.from_numpy(ids)).numpy()
    assert np.square(network(ids) - expected).mean() < 0.01 * expected.var()
    program = nupes.compile(network, ARRAY)
    assert check_outputs(running(ARRAY), program, (ids[:2],)).exact
    loaded = nupes.load(network.save(tmp_path / "placed.safetensors"))
    np.testing.assert_array_equal(loaded(ids), network(ids))
    codes = network.run(*network.encode_all(ids))
    session = onnxruntime.InferenceSession(build_onnx(network).SerializeToString())
    (given,) = session.get_inputs()
    np.testing.assert_array_equal(session.run(["y"], {given.name: ids})[0], codes)
    with pytest.raises(UnsupportedError, match="must have an array of its own and no positions in"):
        build_qonnx(network)
    with pytest.raises(InputError, match="network must get 1 inputs, not 2"):
        network(ids, ids)


MODEL = """
import torch
from torch import nn

def load():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(20, 8), nn.LayerNorm(8), nn.Linear(8, 3)).eval()
"""


def test_ids_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.py").write_text(MODEL)
    np.savez("ids.npz", x=np.random.default_rng(0).integers(0, WORDS, (8, TOKENS)))
    assert main(["check", "model.py:load", "--input-shape", "6", "--array", "4x4,attention=1"]) == 0
    words = ["quantize", "model.py:load", "--scheme", "W8A8", "--calibration", "ids.npz"]
    assert main([*words, "--method", "rtn", "--output", "net.safetensors"]) == 0
    words = ["simulate", "net.safetensors", "ids.npz", "--images", "2"]
    assert main([*words, "--array", "4x4,acc_depth=16,attention=1"]) == 0
    assert "equal" in capsys.readouterr().out


class Padded(nn.Module):
    """What an encoder makes of ids of which 1 is padding: causal attention in a layer of PyTorch's
    own, and the mean of the tokens that count."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.head = nn.Embedding(WORDS, 8), nn.Linear(8, 3)
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.encode(ids, ids != 1)

    def encode(self, ids: Tensor, shown: Tensor) -> Tensor:
        """Return the classes of tokens of which some count."""
        x = self.layers(self.words(ids), self.mask, src_key_padding_mask=~shown)
        return self.head((shown[..., None] * x).sum(1) / shown.sum(1, keepdim=True))


class Told(Padded):
    """The same, told by another input which tokens count."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return self.encode(ids, mask > 0)


def test_masks_that_are_made_of_ids(
    running: Callable[..., nupes.Simulator], tmp_path: Path, data: tuple[np.ndarray, np.ndarray]
) -> None:
    ids = np.where(data[1], np.where(data[0] == 1, 2, data[0]), 1)
    network = nupes.quantize(Padded().eval(), "W8A8", ids, method="rtn")
    told = nupes.quantize(Told().eval(), "W8A8", (ids, data[1]), method="rtn")
    found = network(ids)
    np.testing.assert_array_equal(found, told(ids, data[1]))
    with torch.no_grad():
        expected = Padded().eval()(torch.from_numpy(ids)).numpy()
    assert np.square(found - expected).mean() < 0.01 * expected.var()
    program, hardware = nupes.compile(network, ARRAY), running(ARRAY)
    check = check_outputs(hardware, program, (ids[:3],))
    assert check_layers(hardware, program, check, (ids[:3],)).exact
    loaded = nupes.load(network.save(tmp_path / "padded.safetensors"))
    np.testing.assert_array_equal(loaded(ids), found)
    session = onnxruntime.InferenceSession(build_onnx(network).SerializeToString())
    (given,) = session.get_inputs()
    (y,) = session.run(["y"], {given.name: ids})
    np.testing.assert_array_equal(y, network.run(*network.encode_all(ids)))
    with pytest.raises(InputError, match=r"ids must lie in 0..19"):
        network(ids + WORDS)
