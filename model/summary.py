"""Networks in words and as notebook tables; nothing here computes a value of a network."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from nupes.model.operators import Conv

if TYPE_CHECKING:
    from nupes.model.network import IntegerNetwork

__all__ = ["html_table", "network_html", "network_line"]

CELL = "padding:.15em .6em;text-align:"


def html_table(caption: str, titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table for a notebook; numbers are grouped by thousands and flush right.

    It has no colours of its own, so that it fits light and dark notebooks.
    """
    head = "".join(f'<th style="{CELL}left">{escape(title)}</th>' for title in titles)
    lines = [f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>"]
    for row in rows:
        cells = []
        for value in row:
            number = isinstance(value, int)
            text = f"{value:,}" if number else str(value)
            side = "right" if number else "left"
            cells.append(f'<td style="{CELL}{side}">{escape(text)}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def network_line(network: "IntegerNetwork") -> str:
    """Return a network in one line: scheme, layers, shapes and MACs of one image."""
    scheme = network.metadata.get("scheme")
    sizes = [item.tensor.shape for item in network.inputs]
    inputs = ", ".join(f"{channels}x{height}x{width}" for height, width, channels in sizes)
    outputs = ", ".join("x".join(map(str, output.shape)) for output in network.outputs)
    return (
        f"IntegerNetwork({f'{scheme}, ' if scheme else ''}{len(network.layers)} layers, "
        f"{inputs} -> {outputs}, {sum(network.macs.values()):,} MACs)"
    )


def network_html(network: "IntegerNetwork") -> str:
    """Return the layers of a network as a notebook table."""
    tensors, macs = network.tensors, network.macs
    rows = []
    for layer in network.layers:
        bits = str(layer.op.codebook.bits) if isinstance(layer.op, Conv) else ""
        residual = None if layer.post is None else layer.post.residual
        rows.append(
            (
                layer.name,
                layer.op.words(*network.input_shapes(layer))
                + (f" + {residual.port.tensor}" if residual else ""),
                ", ".join(port.tensor for port in layer.inputs),
                "x".join(map(str, layer.output.shape)),
                bits,
                ", ".join(str(tensors[port.tensor].format.bits) for port in layer.inputs),
                macs[layer.name],
            )
        )
    titles = ("layer", "operator", "reads", "output", "weight bits", "input bits", "MACs")
    return html_table(network_line(network), titles, rows)
