"""Packed size on disk is what the bits promise: the artifact holds no byte beyond its table."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from safetensors import safe_open

from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from tests.networks import networks


def promised(network: IntegerNetwork) -> int:
    """Return the bytes of all arrays by the table of docs/numerics.md."""
    source = network.the_input
    size = source.encoder.thresholds.size * 8 + 2 * len(source.tensor.codebook)
    for layer in network.layers:
        if not layer.wide:
            size += 2 * len(layer.output.codebook)
        if isinstance(layer.op, Conv):
            size += -(-layer.op.codes.size * layer.op.codebook.bits // 8)
            size += 2 * len(layer.op.codebook) + 8 * len(layer.op.codes)
        if layer.post is not None:
            size += (4 + 8 + 4) * len(layer.post.requantize.mult)
        if layer.encoder is not None:
            size += 2 * len(layer.encoder.thresholds) + len(layer.encoder.codes)
    return size


@settings(max_examples=30)
@given(networks())
def test_artifact_is_as_large_as_its_bits(network: IntegerNetwork) -> None:
    with TemporaryDirectory() as folder:
        path = network.save(Path(folder) / "net.safetensors")
        data = path.read_bytes()
        with safe_open(path, framework="numpy") as handle:
            sizes = {name: handle.get_tensor(name).nbytes for name in handle.keys()}
    for index, layer in enumerate(network.layers):
        if isinstance(layer.op, Conv):
            codes, bits = layer.op.codes, layer.op.codebook.bits
            assert sizes[f"layers.{index}.op.codes"] == -(-codes.size * bits // 8)
    header = 8 + int.from_bytes(data[:8], "little")
    assert len(data) - header == sum(sizes.values()) == promised(network)
