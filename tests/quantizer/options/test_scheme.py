"""Schemes, overrides and the bits that follow from them."""

import pytest
import torch
from torch import nn

from nupes.model.errors import InputError
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from nupes.quantizer import quantize
from nupes.quantizer.options.scheme import Scheme, match_overrides, parse_scheme
from tests.quantizer.close import images


class Block(nn.Module):
    """Two convolutions around a sum, a pool and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.skip = nn.Conv2d(6, 6, 1)
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (b, 4) for images (b, 3, h, w)."""
        x = torch.relu(self.stem(x))
        x = torch.relu(self.body(x) + self.skip(x))
        return self.head(x.mean((2, 3)))


def bits_of(network: IntegerNetwork) -> tuple[dict[str, int], dict[str, int]]:
    """Return the bits of weights and of tensors by name."""
    weights = {
        layer.name: layer.op.codebook.bits for layer in network.layers if isinstance(layer.op, Conv)
    }
    return weights, {name: tensor.format.bits for name, tensor in network.stored.items()}


def make(scheme: str, **options: object) -> IntegerNetwork:
    """Return the block as an integer network."""
    return quantize(Block(), scheme, images(16, 3, 8, 8), method="search", **options)  # type: ignore[arg-type]


def test_ends_and_residuals_have_eight_bits_by_default() -> None:
    weights, tensors = bits_of(make("W3A4"))
    assert weights == {"stem": 8, "skip": 3, "body": 3, "head": 8}
    assert tensors == {"input": 8, "stem": 4, "skip": 8, "body": 4, "avg_pool2d": 8}


def test_ends_and_residuals_can_follow_the_scheme() -> None:
    weights, tensors = bits_of(make("W2A3", ends=None, residual_bits=None))
    assert set(weights.values()) == {2}
    assert set(tensors.values()) == {3}


def test_the_input_may_keep_its_bits_where_the_ends_follow_the_scheme() -> None:
    weights, tensors = bits_of(make("W4A4", ends=None, input_bits=8))
    assert set(weights.values()) == {4}
    assert tensors["input"] == 8
    assert tensors["stem"] == tensors["avg_pool2d"] == 4


def test_overrides_set_weights_and_what_the_layer_reads() -> None:
    weights, tensors = bits_of(
        make("W4A4", overrides={"b*": "W6A5", "head": "W2A3", "stem": "W7A6"})
    )
    assert weights == {"stem": 7, "skip": 4, "body": 6, "head": 2}
    assert tensors == {"input": 6, "stem": 5, "skip": 8, "body": 4, "avg_pool2d": 3}


def test_metadata_tells_the_choices() -> None:
    network = make("W4A4")
    assert network.metadata["scheme"] == "W4A4"
    layers = {entry["name"]: entry for entry in network.metadata["layers"]}
    assert layers["stem"]["weights"]["family"] == "uniform"
    assert 0.2 <= layers["body"]["weights"]["exponent"] <= 1.2
    body = next(layer for layer in network.layers if layer.name == "body")
    assert isinstance(body.op, Conv)
    assert body.op.codebook.exponent == layers["body"]["weights"]["exponent"]
    assert layers["body"]["activations"]["range"][0] == 0


def test_uniform_has_no_exponents() -> None:
    network = make("W4A4", codebook="uniform")
    books = [tensor.codebook for tensor in network.stored.values()]
    books += [layer.op.codebook for layer in network.layers if isinstance(layer.op, Conv)]
    assert all(book.exponent is None for book in books)


@pytest.mark.parametrize("text", ["W1A4", "W4", "W4A9", "w4a4", "", "W4A4 ", None])
def test_bad_schemes(text: str) -> None:
    message = "scheme must be WxAy with x and y from 2 to 8, such as 'W4A4', not "
    with pytest.raises(InputError, match=message):
        parse_scheme(text)


def test_schemes_print_as_they_are_written() -> None:
    assert str(parse_scheme("W2A8")) == "W2A8"


def test_a_later_override_wins() -> None:
    found = match_overrides(["a", "b.c"], {"*": "W2A2", "b.*": "W3A3"})
    assert found == {"a": Scheme(2, 2), "b.c": Scheme(3, 3)}


def test_an_override_must_match() -> None:
    with pytest.raises(InputError, match=r"must match a layer, not 'c\*'; layers: a, b"):
        match_overrides(["a", "b"], {"c*": "W2A2"})


def test_an_override_of_scores_gives_keys_the_bits_of_weights() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    x = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0)).numpy()
    plain, other = (
        quantize(encoder, "W4A4", x, method="rtn", overrides=overrides)
        for overrides in (None, {"*scores*": "W8A3"})
    )
    (_, before), (_, after) = bits_of(plain), bits_of(other)
    changed = {name: bits for name, bits in after.items() if bits != before[name]}
    assert changed == {"self_attn": 3, "self_attn_1": 8}  # projections in their order
