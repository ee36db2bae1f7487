"""Charts that follow the page: matplotlib's SVG with the page's fonts and colours.

Matplotlib draws with stand-in colours, which become CSS variables: one drawing serves light and
dark. Text stays text.
"""

import io
import re
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLORS", "figure", "style", "to_svg"]

COLORS = {
    name: f"#0000{index:02x}"
    for index, name in enumerate(
        ("ink", "muted", "line", "card", "good", "edge", "requant", "weights", "memory", "depend"),
        start=1,
    )
}
"""Stand-in colour of each of the page's variables."""

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nupes",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": COLORS["line"],
    "axes.labelcolor": COLORS["muted"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLORS["line"],
    "grid.linewidth": 0.6,
    "xtick.color": COLORS["line"],
    "ytick.color": COLORS["line"],
    "xtick.labelcolor": COLORS["muted"],
    "ytick.labelcolor": COLORS["muted"],
    "text.color": COLORS["ink"],
    # Names are the user's: a dollar is a dollar.
    "text.parse_math": False,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": COLORS["muted"],
}


def style() -> AbstractContextManager[None]:
    """Return the context in which every chart is drawn and saved."""
    return mpl.rc_context(SETTINGS)


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of some inches with one pair of axes."""
    drawing = Figure((width, height), layout="constrained")
    return drawing, drawing.add_subplot()


def to_svg(drawing: Figure, title: str) -> str:
    """Return a figure as an ``<svg>`` element that a reader of the page hears as ``title``."""
    stream = io.StringIO()
    drawing.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r' id="(?:figure|axes|matplotlib|patch|line2d|text|xtick|ytick)[^"]*"', "", text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # The page's font and text colour; sizes stay.
    text = re.sub(r"font:? ?(?:-family)?:? ?([\d.]+px) [^;\"]*", r"font-size: \1", text)
    for name, color in COLORS.items():
        text = text.replace(color, f"var(--{name})")
    safe = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return re.sub(
        r"<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>",
        lambda match: open_tag(match[1], safe),
        re.sub(r"\n\s*", "\n", text),
        count=1,
    )


def open_tag(box: str, title: str) -> str:
    """Return the opening tag of a drawing, as wide as its inches."""
    width, height = (round(float(value) * 96 / 72) for value in box.split()[2:])
    return (
        f'<svg class="chart" role="img" aria-label="{title}" width="{width}" height="{height}" '
        f'viewBox="{box}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
