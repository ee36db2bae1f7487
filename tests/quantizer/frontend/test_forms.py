"""Hundreds of ways to write operators, each captured, fused and compared with the module."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from torch.export import ExportedProgram

from nupes.model.network import Output
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import Program, split_outputs
from nupes.quantizer.frontend.verify import verify_capture
from nupes.quantizer.frontend.walk import capture_program
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import run_float
from tests.quantizer.close import images, randomize_norms
from tests.quantizer.frontend.forms import FAMILIES, SHAPE, SUMS, Forms


@lru_cache(maxsize=2)
def export(
    family: str, dtype: torch.dtype, channels_last: bool
) -> tuple[ExportedProgram, list[Program], list[np.ndarray]]:
    """Return a family's export, the program of each form and what the module gives for images."""
    torch.manual_seed(0)
    module = randomize_norms(Forms(list(FAMILIES[family].values())))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module = module.to(dtype, memory_format=layout)  # type: ignore[call-overload]
    x = torch.from_numpy(images(*SHAPE)).to(dtype, memory_format=layout)
    exported = torch.export.export(module, (x,))
    with torch.no_grad():
        outputs = [output.double().numpy() for output in module(x)]
    return exported, split_outputs(exported), outputs


def check(family: str, index: int, dtype: torch.dtype, channels_last: bool) -> None:
    """Compare one form's captured and fused network with the module."""
    exported, programs, outputs = export(family, dtype, channels_last)
    graph = capture_program(programs[index])
    network = fuse(graph)
    x = Batch((torch.from_numpy(images(*SHAPE)).to(dtype).float(),))
    verify_capture(exported, graph, network, x)
    with torch.no_grad():
        maps = run_float(network.stages, network.start(x))
    expected = outputs[index]
    output = Output("output", expected.shape[1:])
    found = output.arrange(maps[network.stages[-1].name].numpy().transpose(0, 2, 3, 1))
    scale = np.abs(expected).max()
    allowed = {torch.float16: 0.02, torch.bfloat16: 0.1}.get(dtype, 2e-5) * (1 + scale)
    far = np.abs(found - expected) > allowed
    # A step of a function with steps may lie on either side of a rounding.
    assert far.mean() <= (0.02 if dtype in (torch.float16, torch.bfloat16) else 0)


CASES = [
    pytest.param(family, index, id=f"{family}: {name}")
    for family, forms in FAMILIES.items()
    for index, name in enumerate(forms)
]


@pytest.mark.parametrize(("family", "index"), CASES)
def test_forms_are_the_module(family: str, index: int) -> None:
    check(family, index, torch.float32, channels_last=False)


def test_there_are_enough_forms() -> None:
    assert sum(map(len, FAMILIES.values())) >= 300


TYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
LAYOUTS = [
    *((family, False) for family in FAMILIES),
    *((family, True) for family in FAMILIES if family != "views"),
]


# One test for all forms of a family: what costs is its export, once for each type and layout.
@pytest.mark.slow
@TYPES
@pytest.mark.parametrize(("family", "channels_last"), LAYOUTS)
def test_forms_of_other_types(
    family: str, channels_last: bool, dtype: torch.dtype, subtests: pytest.Subtests
) -> None:
    for index, name in enumerate(FAMILIES[family]):
        with subtests.test(name):
            check(family, index, dtype, channels_last)


@TYPES
def test_types_and_layouts(dtype: torch.dtype) -> None:
    for index in range(len(SUMS)):
        check("sums", index, dtype, channels_last=True)
