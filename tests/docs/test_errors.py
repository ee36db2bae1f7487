"""The catalogue of errors: every message of the source, and no other."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from nupes.model import error_catalogue, errors
from nupes.model.error_catalogue import HEADING, PAGE, PLACE, find_anchor, headings
from nupes.model.errors import InputError

ROOT = Path(__file__).parents[2]
STAGES = ("arch", "compiler", "export", "model", "nupes", "quantizer", "rtl", "sim")
RAISING = {*errors.__all__, "refuse"}


def text_of(node: ast.expr) -> str:
    """Return a message as the catalogue writes it: one ``…`` for each value."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return "…"


def plain(message: str) -> str:
    """Return a message on one line, without the place that begins it and the value that ends it."""
    return PLACE.sub("", " ".join(message.split())).rstrip("… ")


def messages() -> Iterator[str]:
    """Yield the message of every error that the stages raise, as a heading has it."""
    for path in (path for stage in STAGES for path in (ROOT / stage).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else None
                name = node.func.id if isinstance(node.func, ast.Name) else name
                message = " ".join(text_of(node.args[0]).split())
                if name in RAISING and re.search("[a-z]", plain(message)):
                    yield message


def heading(message: str) -> str:
    """Return a heading for a message; its anchor is made of the message's first words."""
    words = re.findall("[a-z0-9]+", plain(message).lower())
    return f"### `{message}` {{ #{'-'.join(words[:6])} }}"


HEADINGS = {
    match["message"].strip(): match["anchor"]
    for match in HEADING.finditer((ROOT / PAGE).read_text(encoding="utf-8"))
}


def test_the_catalogue_has_every_message() -> None:
    shown = [plain(message) for message in HEADINGS]
    raised = {plain(message): message for message in messages()}
    report(f"{PAGE} lacks", [heading(raised[each]) for each in raised.keys() - set(shown)])
    report(f"nothing raises, but {PAGE} has", set(shown) - raised.keys())
    assert len(shown) == len(set(shown))


def report(fault: str, lines: Iterable[str]) -> None:
    """Fail with all lines, if there are any."""
    if text := "\n".join(sorted(lines)):
        pytest.fail(f"{fault}\n{text}", pytrace=False)


def test_a_missing_heading_can_be_pasted() -> None:
    line = heading("…: a running sum must be of … channels, not …")
    assert line == (
        "### `…: a running sum must be of … channels, not …` { #a-running-sum-must-be-of }"
    )
    assert HEADING.fullmatch(line)
    with pytest.raises(pytest.fail.Exception, match="it lacks\na\nb"):
        report("it lacks", ["b", "a"])


def test_every_message_finds_its_heading() -> None:
    assert len(HEADINGS) == len(set(HEADINGS.values()))
    for message, anchor in HEADINGS.items():
        for value in ("0", "('a', 2)", "one\n  line: another"):
            assert find_anchor(f"layer 'x': {message.replace('…', value)}") == anchor, message


def test_an_error_says_where_it_is_explained() -> None:
    error = InputError("network must have at least one layer")
    assert error.anchor == "network-must-have-at-least-one-layer"
    assert error.__notes__ == [f"explained in {PAGE}#{error.anchor}"]
    assert InputError("something else").anchor is None


def test_long_messages_are_found_at_once() -> None:
    log = "x must be y, not z: " * 10_000
    assert find_anchor(f"verilator failed, exit status 1: {log}") == "failed-exit-status"
    assert find_anchor(log) is None


@pytest.mark.parametrize("page", [None, "../docs/errors.md"])
def test_without_the_page_messages_do_without_an_anchor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str | None
) -> None:
    """A checkout without symbolic links has no page, or its path instead."""
    if page is not None:
        (tmp_path / "errors.md").write_text(page)
    monkeypatch.setattr(error_catalogue, "files", lambda _: tmp_path)
    headings.cache_clear()
    assert InputError("network must have at least one layer").anchor is None
    monkeypatch.undo()
    headings.cache_clear()
    assert InputError("network must have at least one layer").anchor is not None
