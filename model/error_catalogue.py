"""The catalogue of errors: which heading of docs/errors.md explains a message.

The page is carried by the package. Its headings are the messages, with ``…`` for what varies, and
an anchor each.
"""

import re
from functools import cache
from importlib.resources import files

__all__ = ["HEADING", "PAGE", "PLACE", "find_anchor"]

PAGE = "docs/errors.md"
"""Where a reader finds the page."""

HEADING = re.compile(r"^### (`+) ?(?P<message>.+?) ?\1 \{ #(?P<anchor>[\w-]+) \}$", re.MULTILINE)

PLACE = re.compile(r"^(?:…|layer …): ")
"""What begins a heading and only says where; any place may precede a message."""


@cache
def headings() -> tuple[tuple[str, list[str]], ...]:
    """Return the anchor of every heading and the parts between its values, the most literal
    first."""
    try:
        page = files("nupes").joinpath("errors.md").read_text(encoding="utf-8")
    except OSError:  # a checkout without the link: messages do without their anchor
        return ()
    found = [
        (match["anchor"], f": {PLACE.sub('', match['message'])}".split("…"))
        for match in HEADING.finditer(page)
    ]
    return tuple(sorted(found, key=lambda item: -sum(map(len, item[1]))))


def find_anchor(message: str) -> str | None:
    """Return the anchor of the heading that explains a message, if there is one."""
    line = re.sub(r"\s+", " ", f": {message}")
    return next((anchor for anchor, parts in headings() if fits(parts, line)), None)


def fits(parts: list[str], line: str) -> bool:
    """Return whether a line holds these parts in their order and ends with the last one."""
    *before, last = parts
    end = 0
    for part in before:
        start = line.find(part, end)
        if start < 0:
            return False
        end = start + len(part)
    return line.endswith(last) and len(line) - len(last) >= end
