"""Tables of the coverage: what counts as convolutional, and the reasons."""

import pytest

from benchmarks.summary import first_reason, print_tables

STAMP = {"date": "2026-11-29", "versions": "nupes 0.1.0"}
CONV, OTHER = {"kind": "convolutional"}, {"kind": "with attention or norms"}
KNOWN = {"layers": 3, "macs": 2_000_000, "seconds": 1.2, **STAMP}


def test_the_first_reason() -> None:
    problems = [["pad", "must be 0"], ["softmax", "is not supported"]]
    assert first_reason({"problems": problems}) == "`pad` must be 0"
    assert first_reason({"reason": "no", "problems": problems[:1]}) == "`pad` must be 0"
    assert first_reason({"problems": [["", "cannot be exported"]]}) == "cannot be exported"
    assert first_reason({"reason": "it needs more than 8 GiB", **KNOWN}) == (
        "it needs more than 8 GiB"
    )
    assert first_reason(KNOWN) == ""


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    print_tables({
        "seed": 7,
        "networks": {
            **dict.fromkeys(["timm/a", "timm/c", "timm/e", "timm/g", "torchvision/d"], CONV),
            **dict.fromkeys(["timm/b", "timm/f"], OTHER),
        },
        "check": {
            "timm/a": {"problems": [], **KNOWN},
            "timm/b": {"problems": [["softmax", "is not supported"]], **STAMP},
            "timm/c": {"problems": [["pad", "must | be 0"]], "layers": 0, **STAMP},
            "timm/e": {"problems": [], **KNOWN},
        },
        "accept": {
            "timm/a": {"cycles": 1234, **KNOWN},
            "timm/f": {"reason": "it takes more than 9 seconds", **STAMP},
            "torchvision/d": {"reason": "no", "problems": [], **KNOWN},
        },
        "simulate": {"timm/a": {"size": 32, "exact": True, "cycles": 99, **STAMP}},
    })  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Seed 7.", "7 results of 2026-11-29: nupes 0.1.0."]
    assert "| timm | convolutional | 4 | 3 | 2 | 1 |" in lines
    assert "| timm | with attention or norms | 2 | 2 | 0 | 0 |" in lines
    assert "| torchvision | convolutional | 1 | 1 | 1 | 0 |" in lines
    assert "| `pad` must / be 0 | 1 | timm/c |" in lines
    assert "| timm/a | accepted | 3 | 2 | 1,234 | 1 |" in lines
    assert "| timm/e | captured | 3 | 2 |  | 1 |" in lines
    assert "| torchvision/d | no | 3 | 2 |  | 1 |" in lines
    assert "| timm/a | 32x32 | 99 | equal |" in lines
