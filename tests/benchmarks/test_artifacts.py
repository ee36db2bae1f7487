"""Recipes of which steps are left out, and networks that are made once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import nupes
from benchmarks.artifacts import Wishes, quantize_once, recipe_without
from nupes.quantizer.options.recipe import METHODS


def test_steps_are_left_out() -> None:
    expected = replace(METHODS["search"], center=False, split=False)
    assert recipe_without("search", ["center", "split"]) == expected
    for wrong in ("rewrites", "family"):
        with pytest.raises(nupes.InputError, match=f"steps of a Recipe, not '{wrong}'"):
            recipe_without("search", [wrong])


def test_a_network_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = nn.Sequential(nn.Linear(4, 3)).eval(), np.ones((8, 4), np.float32)
    wishes = Wishes.parse(["0=W8A8"], "", "")
    found = quantize_once(tmp_path, "net", module, "W4A4", "rtn", x, wishes)
    (path,) = tmp_path.iterdir()
    assert path.name == "net-W4A4-0=W8A8-rtn-8.safetensors"
    monkeypatch.setattr(nupes, "quantize", None)
    again = quantize_once(tmp_path, "net", module, "W4A4", "rtn", x, wishes)
    np.testing.assert_array_equal(again(x), found(x))
    with pytest.raises(TypeError):  # others are made anew
        quantize_once(tmp_path, "net", module, "W4A4", "rtn", x, Wishes.parse(None, "", "center"))


def test_wishes_are_what_options_say() -> None:
    assert Wishes.parse(None, "", "") == Wishes({}, {})
    wishes = Wishes.parse(["*.key=W8A8"], "keys=8,values=6", "center,split")
    assert wishes == Wishes({"*.key": "W8A8"}, {"keys": 8, "values": 6}, ("center", "split"))
    assert wishes.label == "key=W8A8-keys=8-values=6-no_center-no_split"
