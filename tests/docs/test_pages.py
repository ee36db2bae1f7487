"""What the pages say about the code is what the code says."""

import re
from pathlib import Path

import pytest

import nupes
from nupes.arch.bus import BusStatus
from nupes.arch.isa import (
    DESCRIPTOR,
    INSTRUCTION,
    RUN,
    RUN_POSITION,
    STORE_ADDRESS,
    STORE_POSITION,
    STREAMED,
    STREAMED_POSITION,
    Destination,
    Field,
    Opcode,
)
from nupes.arch.registers import map_rows
from tests.docs.pages import PAGES, ROOT, name_of

API = ROOT / "docs" / "api"
STAGES = ("arch", "compiler", "export", "model", "quantizer", "rtl", "sim")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    """The site's strict build checks docs/ and every heading; this, the pages outside as well."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


def test_the_reference_has_every_public_name() -> None:
    shown = re.findall(r"^::: nupes\.(?:.+\.)?(\w+)$", (API / "index.md").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(nupes.__all__)


@pytest.mark.parametrize("stage", STAGES)
def test_the_reference_has_every_stage_with_its_modules(stage: str) -> None:
    page = (API / f"{stage}.md").read_text(encoding="utf-8")
    lines = (f"::: nupes.{stage}", "    options:", "      show_submodules: true", "")
    assert "\n".join(lines) in page


def rows(layout: tuple[Field, ...], position: int = 0) -> list[tuple[str, str, str]]:
    """Return bits, name and meaning of each field, the first one at ``position``, as the page shows
    them."""
    found = []
    for item in layout:
        last = position + item.width - 1
        bits = f"{position}..{last}" if item.width > 1 else str(position)
        found.append((bits, f"`{item.name}`" + (" (signed)" if item.signed else ""), item.doc))
        position = last + 1
    return found


def test_the_instruction_tables_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "instructions.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\d[\d.]*) \| (`.+?) \| (.+) \|$", text, re.MULTILINE)
    assert shown == [
        *rows(INSTRUCTION),
        *rows(RUN, RUN_POSITION),
        *rows(STORE_ADDRESS, STORE_POSITION),
        *rows(STREAMED, STREAMED_POSITION),
        *rows(DESCRIPTOR),
    ]
    for item in [*Opcode, *Destination]:
        assert f"{item.name} {int(item)}" in text


def test_the_register_table_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "bus.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (?:0x\w\w)? \|.*\|$", text, re.MULTILINE)
    assert shown == map_rows()
    ends = re.findall(r"^\| (\d+) \| (\w+) \| .+ \|$", text, re.MULTILINE)
    assert ends == [(str(int(item)), item.name) for item in BusStatus]


def test_the_report_page_explains_every_part_of_the_report() -> None:
    template = (ROOT / "nupes" / "report" / "page.html.j2").read_text(encoding="utf-8")
    patterns = (r'heading\("(.+?)"', r'call fact\("(.+?)"', r"<(?:dt|h2|h3)>([^<{]+?) ?<")
    names = {name for pattern in patterns for name in re.findall(pattern, template)}
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^## (.+)$|\*\*(.+?)\*\*", page, re.MULTILINE))
    assert len(names) > 30
    assert sorted(names - {name for pair in shown for name in pair}) == []
