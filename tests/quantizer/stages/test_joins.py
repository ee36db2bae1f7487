"""Tensors share a code where codes are copied, and nowhere else."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.joins import join_tensors
from nupes.quantizer.stages.operators import Select
from nupes.quantizer.stages.stage import FusedNetwork, Stage
from tests.quantizer.test_operators import Call, conv


def test_a_pool_shares_the_code_of_what_it_reads() -> None:
    module = nn.Sequential(conv(), nn.ReLU(), nn.MaxPool2d(2), nn.MaxPool2d(2, 1), conv(4, 6, 1))
    joins = join_tensors(fuse(capture(export_module(module.eval(), (2, 3, 10, 9)))))
    assert joins.root == {"input": "input", "0": "0", "2": "0", "3": "0", "4": "4"}
    assert joins.members("3") == ["0", "2", "3"]
    assert joins.origins == {"input": ["input"], "0": ["0"], "4": ["4"]}
    assert joins.others("0") == []


def test_factors_share_a_code_and_wholes() -> None:
    def forward(s: Call, x: Tensor) -> Tensor:
        return s.e(s.a(x) * s.b(x) + s.c(x) * s.d(x))

    module = Call(forward, **{name: conv() for name in "abcd"}, e=conv(4, 6, 1))
    joins = join_tensors(fuse(capture(export_module(module.eval(), (2, 3, 10, 9)))))
    assert joins.members("a") == ["a", "c"]
    assert joins.members("b") == ["b", "d"]
    assert joins.origins["a"] == ["a", "c"]
    assert joins.others("e") == []


@dataclass(frozen=True)
class Both(Select):
    """Stands for any operator that copies codes of two sources."""


def test_all_sources_of_a_copy_share_a_code() -> None:
    network = fuse(capture(export_module(nn.Sequential(conv(3), conv(3, 3, 1)), (2, 3, 8, 8))))
    first, last = network.stages
    ones, zeros = np.ones(3), np.zeros(3)
    other = Stage("other", Both(3), ("input",), (6, 6, 3), 2 * ones, zeros)
    copy = Stage("copy", Both(3), ("other", first.name), (6, 6, 3), ones, zeros)
    more = FusedNetwork(**{**vars(network), "stages": (first, other, copy, last)})
    joins = join_tensors(more)
    assert joins.members("copy") == [first.name, "other", "copy"]
    assert joins.origins[first.name] == [first.name, "other"]
    assert joins.others(first.name) == ["other"]
