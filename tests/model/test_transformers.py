"""Whole transformer encoders against the reference, and their files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from nupes.model.artifact.reader import load
from nupes.model.errors import InputError
from nupes.model.layer import ShiftEncoder
from nupes.model.network import IntegerNetwork
from tests.encoders import transformers
from tests.images import all_images_of, images_of
from tests.model.reference import network as reference
from tests.transformers import Books, Sizes, Transformer


def encoder(seed: int = 0, **sizes: Any) -> IntegerNetwork:
    """Return an encoder of two blocks."""
    return Transformer(Sizes(**sizes), Books(), np.random.default_rng(seed)).build()


@settings(max_examples=40)
@given(transformers(gates=True, lengths=True))
def test_random_encoders_equal_the_reference(network: IntegerNetwork) -> None:
    codes = network.encode_all(*all_images_of(network, 2))
    got = network.run(*codes).reshape(2, -1).tolist()
    assert got == [reference.run(network, *image) for image in zip(*codes, strict=True)]


def test_two_blocks() -> None:
    network = encoder()
    codes = network.encode(images_of(network, 20))
    y = network.run(codes)
    assert y.tolist() == [reference.run(network, image) for image in codes]
    assert (y.std(axis=0) > 100).all()
    assert {layer.op.kind for layer in network.layers} == {
        "average_pool", "concat", "conv", "matmul", "normalize", "subtract_max", "weighted_mean",
    }  # fmt: skip
    assert "layer norm" in network._repr_html_()


def test_the_order_of_tokens_does_not_matter() -> None:
    """The mean of all tokens is that of any order of them: every head sees its keys permuted."""
    network = encoder(tokens=(9, 1))
    codes = network.encode(images_of(network, 8))
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_array_equal(network.run(codes), network.run(codes[:, order]))


@pytest.mark.parametrize("sizes", [{}, {"shifts": True, "signed": True, "norm_first": False}])
def test_files_hold_encoders(tmp_path: Path, sizes: dict[str, Any]) -> None:
    network = encoder(**sizes)
    loaded = load(network.save(tmp_path / "net.safetensors"))
    codes = network.encode(images_of(network, 3))
    np.testing.assert_array_equal(loaded.run(codes), network.run(codes))
    posts = [layer.post for layer in network.layers if layer.post is not None]
    assert any(post.requantize.mult.min() < 0 for post in posts) == bool(sizes)
    assert any(isinstance(post.encoder, ShiftEncoder) for post in posts) == bool(sizes)
    again = loaded.save(tmp_path / "again.safetensors")
    assert again.read_bytes() == (tmp_path / "net.safetensors").read_bytes()


@pytest.mark.parametrize("shift", range(1, 16))
def test_shift_encoders_are_encoders_of_thresholds(shift: int) -> None:
    network = encoder(shifts=True)
    layer = next(item for item in network.layers if not item.wide and item.post is not None)
    assert layer.post is not None
    layer = replace(layer, post=replace(layer.post, encoder=ShiftEncoder(shift)))
    levels = layer.output.codebook.levels
    y = np.arange(-32768, 32768)
    want = np.clip((y + (1 << (shift - 1))) >> shift, levels[0], levels[-1]) - levels[0]
    assert layer.encoder is not None
    np.testing.assert_array_equal(layer.encoder(y.astype(np.int16)), want)


def changed(network: IntegerNetwork, index: int, **changes: Any) -> IntegerNetwork:
    """Return a network with a layer's requantization and encoder changed."""
    layers = list(network.layers)
    post = layers[index].post
    assert post is not None
    layers[index] = replace(layers[index], post=replace(post, **changes))
    return replace(network, layers=tuple(layers))


def test_bad_shift_encoders_are_refused() -> None:
    network = encoder(shifts=True)
    names = [layer.name for layer in network.layers]
    index = names.index("block 0 query layer")
    shifts: list[Any] = [0, 16, 1.5]
    for shift in shifts:
        with pytest.raises(InputError) as error:
            changed(network, index, encoder=ShiftEncoder(shift))
        assert str(error.value) == (
            f"layer 'block 0 query layer': encoder shift must be an integer in 1..15, not {shift}"
        )
    index = names.index("block 0 head 0 weights layer")
    with pytest.raises(InputError) as error:
        changed(network, index, encoder=ShiftEncoder(4))
    assert str(error.value).startswith(
        "layer 'block 0 head 0 weights layer': levels of a shift encoder must be consecutive"
    )


def test_means_refuse_signed_weights() -> None:
    network = encoder()
    layers = list(network.layers)
    (index,) = (i for i, layer in enumerate(layers) if layer.name == "block 0 head 0 mean layer")
    other = replace(layers[index].inputs[0], tensor="block 0 query", channels=5)
    layers[index] = replace(layers[index], inputs=(other, layers[index].inputs[1]))
    with pytest.raises(InputError) as error:
        replace(network, layers=tuple(layers))
    assert str(error.value) == (
        "layer 'block 0 head 0 mean layer': weights of a mean must have levels of at least 0, "
        "not -7"
    )
