"""The catalogue of errors: which heading of docs/errors.md explains a message.

The page is carried by the package. Its headings are the messages, with ``…`` for what varies, and
an anchor each.
"""

import re
from functools import cache
from importlib.resources import files

__all__ = ["HEADING", "PAGE", "find_anchor"]

PAGE = "docs/errors.md"
"""Where a reader finds the page."""

HEADING = re.compile(r"^### (`+) ?(?P<message>.+?) ?\1 \{ #(?P<anchor>[\w-]+) \}$", re.MULTILINE)


@cache
def headings() -> tuple[tuple[str, re.Pattern[str], int], ...]:
    """Return anchor, pattern and literal characters of every message, the most literal first."""
    try:
        page = files("nupes").joinpath("errors.md").read_text(encoding="utf-8")
    except OSError:  # a checkout without symbolic links: messages do without their anchor
        return ()
    found = []
    for match in HEADING.finditer(page):
        parts = match["message"].split("…")
        pattern = "(?:.*: )?" + ".*".join(map(re.escape, parts)) + "(?:, not .*)?"
        literal = sum(map(len, parts))
        found.append((match["anchor"], re.compile(pattern, re.DOTALL), literal))
    return tuple(sorted(found, key=lambda item: -item[2]))


def find_anchor(message: str) -> str | None:
    """Return the anchor of the heading that explains a message, if there is one."""
    for anchor, pattern, _ in headings():
        if pattern.fullmatch(message):
            return anchor
    return None
