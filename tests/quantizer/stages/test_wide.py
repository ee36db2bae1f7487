"""Which tensors are wide: the residual stream, and scores; nothing where no operator asks."""

import pytest
import torch
from torch import nn

from nupes.examples.pretrained.vit import ViT
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.pipeline import capture_network
from nupes.quantizer.stages.stage import FusedNetwork
from nupes.quantizer.stages.wide import wide_headrooms, wide_roots
from tests.quantizer.test_operators import conv
from tests.test_attention import Encoder
from tests.test_vit import SMALL


def fused(module: nn.Module, *shape: int) -> FusedNetwork:
    """Return the stages of a module."""
    torch.manual_seed(0)
    return capture_network(module.eval(), Batch((torch.randn(2, *shape),)))[0]


def test_a_stream_and_scores_are_wide() -> None:
    network = fused(Encoder(), 5, 6)
    roots = wide_roots(network)
    added = {stage.residual for stage in network.stages if stage.residual is not None}
    assert added < set(roots)
    stream = {name for name, root in roots.items() if root == "embed"}
    assert stream == {name for name in roots if "scores" not in name and "scaled" not in name}
    scores = set(roots) - stream
    assert len(scores) == 4
    assert all(roots[name] == name for name in scores)  # each has a scale of its own
    headrooms = wide_headrooms(network, roots)
    assert headrooms == {"embed": 32767, **dict.fromkeys(scores, 16383)}


def test_what_another_operator_reads_is_coded() -> None:
    network = fused(Encoder(first=False), 5, 6)
    roots = wide_roots(network)
    readers = network.readers()
    for name in roots:
        assert all(stage.op.reads_wide for stage in readers[name] if name in stage.sources)
    assert "embed" not in roots


def test_norms_that_come_last_give_a_stream_and_codes() -> None:
    network = fused(Encoder(first=False), 5, 6)
    roots, readers = wide_roots(network), network.readers()
    streams = [stage.name for stage in network.stages if stage.name.endswith(".stream")]
    assert len(streams) == 3  # behind the last norm there is no sum
    for name in streams:
        (sum_,) = readers[name]
        assert (sum_.residual, roots[sum_.name], roots[name]) == (name, name, name)
        norm = name.removesuffix(".stream")
        assert norm not in roots
        assert all(stage.residual != norm for stage in readers[norm])


@pytest.mark.parametrize("module", [nn.Sequential(conv(), nn.ReLU(), conv(4, 6))])
def test_networks_without_such_operators_have_none(module: nn.Module) -> None:
    assert wide_roots(fused(module, 3, 8, 7)) == {}


def test_tokens_of_a_stream_are_as_wide_as_it_is() -> None:
    network = fused(ViT(SMALL), 2, 6, 6)
    roots = wide_roots(network)
    views = [stage for stage in network.stages if stage.name in roots and stage.copies_codes]
    assert len(views) == 1
    assert views[0].shape == (1, 1, 8)
    stream = {name for name, root in roots.items() if root == "add"}
    assert views[0].name in stream
    assert {stage.residual for stage in network.stages} - {None, "add.constant"} < stream
