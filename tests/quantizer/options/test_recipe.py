"""Recipes: values that no step knows are refused where they are written."""

from typing import Any, get_args

import pytest

from nupes.model.errors import InputError
from nupes.quantizer.options.recipe import Phase, Recipe, StepName
from nupes.quantizer.search.solver import STEPS


def test_every_step_has_a_name() -> None:
    assert set(STEPS) == set(get_args(StepName))


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (
            Phase,
            {"unit": "blok"},
            "unit of a Phase must be one of layer, block, network, not 'blok'",
        ),
        (Phase, {"rounding": "softt"}, "rounding of a Phase must be one of soft, .* not 'softt'"),
        (Phase, {"batch": 0}, "batch of a Phase must be at least 1, not 0"),
        (Phase, {"steps": 1.5}, "steps of a Phase must be at least 1, not 1.5"),
        (Phase, {"codes": -1}, "codes of a Phase must be 0 to inf, not -1"),
        (Phase, {"drop": 2.0}, "drop of a Phase must be 0 to 1, not 2.0"),
        (Phase, {"scales": float("nan")}, "scales of a Phase must be 0 to inf, not nan"),
        (Recipe, {"family": "log"}, "family of a Recipe must be one of power, uniform, not 'log'"),
        (Recipe, {"metric": "outputs"}, "metric of a Recipe must be one of output, weight"),
        (Recipe, {"exponent": "tensor"}, "exponent of a Recipe must be one of layer, network"),
        (Recipe, {"steps": ("rtn",)}, r"steps of a Recipe must be a tuple of refit, .*'rtn',\)"),
        (Recipe, {"finish": "gptq"}, "finish of a Recipe must be a tuple of refit, .* not 'gptq'"),
        (Recipe, {"phases": Phase()}, "phases of a Recipe must be a tuple of Phase, not Phase"),
        (Recipe, {"phases": ("nupes",)}, "phases of a Recipe must be a tuple of Phase, not"),
    ],
)
def test_bad_fields(kind: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**fields)
