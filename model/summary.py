"""Networks in words and as notebook tables; nothing here computes a value of a network."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from nupes.model.operators import AveragePool, Conv, MaxPool, Operator

if TYPE_CHECKING:
    from nupes.model.network import IntegerNetwork

__all__ = ["describe_operator", "html_table", "network_html", "network_line"]

CELL = "padding:.15em .6em;text-align:"


def describe_operator(op: Operator, source: tuple[int, int, int]) -> str:
    """Return an operator that reads (h, w, c) in words: its kind, window, stride and groups."""
    words = []
    if isinstance(op, Conv):
        depthwise = op.groups > 1 and op.codes.shape[1] == 1
        if op.kernel == source[:2] and op.groups == 1 and not any(op.padding):
            return "linear"
        words.append("depthwise" if depthwise else "conv")
        if op.groups > 1 and not depthwise:
            words.append(f"groups {op.groups}")
    else:
        kinds = {AveragePool: "average pool", MaxPool: "max pool"}
        words.append(kinds.get(type(op), "copy"))
    if op.kernel != (1, 1) or isinstance(op, Conv):
        words.append("x".join(map(str, op.kernel)))
    for name, pair in (("stride", op.stride), ("dilation", op.dilation)):
        if pair != (1, 1):
            words.append(f"{name} {pair[0] if pair[0] == pair[1] else 'x'.join(map(str, pair))}")
    return " ".join(words)


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
    height, width, channels = network.input.shape
    scheme = network.metadata.get("scheme")
    return (
        f"IntegerNetwork({f'{scheme}, ' if scheme else ''}{len(network.layers)} layers, "
        f"{channels}x{height}x{width} -> {'x'.join(map(str, network.output_shape))}, "
        f"{sum(network.macs.values()):,} MACs)"
    )


def network_html(network: "IntegerNetwork") -> str:
    """Return the layers of a network as a notebook table."""
    tensors, shapes, macs = network.tensors, network.layer_shapes(), network.macs
    rows = []
    for layer in network.layers:
        source = tensors[layer.input]
        bits = str(layer.op.codebook.bits) if isinstance(layer.op, Conv) else ""
        rows.append(
            (
                layer.name,
                describe_operator(layer.op, source.shape)
                + (f" + {layer.residual.tensor}" if layer.residual else ""),
                layer.input,
                "x".join(map(str, shapes[layer.name])),
                bits,
                str(source.codebook.bits),
                macs[layer.name],
            )
        )
    titles = ("layer", "operator", "reads", "output", "weight bits", "input bits", "MACs")
    return html_table(network_line(network), titles, rows)
