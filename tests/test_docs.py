"""The documentation's examples run, and its links lead somewhere."""

import doctest
import re
from pathlib import Path

import pytest

from nupes.rtl.isa import DESCRIPTOR, INSTRUCTION, Destination, Field, Opcode

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if not path.name.startswith(".")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_interactive_examples(page: Path) -> None:
    failed, _ = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


def rows(layout: tuple[Field, ...]) -> list[tuple[str, str, str]]:
    """Return bits, name and meaning of each field as the page shows them."""
    found, position = [], 0
    for item in layout:
        last = position + item.width - 1
        bits = f"{position}..{last}" if item.width > 1 else str(position)
        found.append((bits, f"`{item.name}`" + (" (signed)" if item.signed else ""), item.doc))
        position = last + 1
    return found


def test_the_instruction_tables_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\d[\d.]*) \| (`.+?) \| (.+) \|$", text, re.MULTILINE)
    assert shown == rows(INSTRUCTION) + rows(DESCRIPTOR)
    for item in [*Opcode, *Destination]:
        assert f"{item.name} {int(item)}" in text
