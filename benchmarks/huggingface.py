"""Networks of Hugging Face's transformers, random and small: captured, quantized, equal on the RTL.

    python -m benchmarks.huggingface [--networks bert,gpt2] [--scheme W8A8] [--no-simulate]

Every network has two layers of 32 channels and is given ids of tokens, images, spectra or waves.
Its integers are compared with the float module, the squared error over the variance of what it
gives, and for two inputs with the RTL: outputs and every layer's cycles. Needs transformers (extra
``coverage``). The exit status is 1 if any integer or cycle differs.
"""

from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table
from torch import Tensor, nn

import nupes
from benchmarks.extras import bring
from benchmarks.hardware import check_on_rtl
from benchmarks.huggingface_zoo import NETWORKS, PADDING, TOKENS, WORDS, Network
from benchmarks.zoo import declare_operators
from nupes.console import print_table
from nupes.inputs import parse_array, quiet_torch

SAMPLES = 16
"""Random inputs, which also calibrate."""


class Plain(nn.Module):
    """The first result of a model, its hidden states."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, given: Tensor) -> Tensor:
        """Return the hidden states."""
        return self.model(given)[0]


class Masked(Plain):
    """The same for text with a mask."""

    def forward(self, given: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Return the hidden states."""
        return self.model(given, attention_mask=mask)[0]


def build(network: Network) -> nn.Module:
    """Return a network with random weights."""
    declare_operators()
    transformers = bring("transformers", "coverage")
    torch.manual_seed(0)
    kind = getattr(transformers, network.model)
    model = kind(kind.config_class(**network.config)).eval()
    if network.part:
        model = getattr(model, network.part)
    return Masked(model) if network.mask else Plain(model)


def draw(network: Network) -> tuple[np.ndarray, ...]:
    """Return random inputs, text of all lengths if it has a mask."""
    rng = np.random.default_rng(0)
    if network.shape is not None:
        return (rng.normal(size=(SAMPLES, *network.shape)).astype(np.float32),)
    ids = rng.integers(3, WORDS, (SAMPLES, TOKENS))
    lengths = rng.integers(1, TOKENS + 1, (SAMPLES, 1))
    if not network.mask:
        return (ids,)
    mask = np.arange(TOKENS) < lengths
    return np.where(mask, ids, PADDING), mask.astype(np.int64)


def measure(network: Network, scheme: str, simulate: bool, array: str) -> dict[str, Any]:
    """Return what became of a network."""
    module, inputs = build(network), draw(network)
    try:
        with quiet_torch():
            integers = nupes.quantize(module, scheme, inputs, method="rtn")
        program = nupes.compile(integers, parse_array(array))
    except nupes.NupesError as error:
        return {"reason": " ".join(str(error).splitlines()[0].split())[:120]}
    with torch.no_grad():
        expected = module(*map(torch.from_numpy, inputs)).numpy()
    error = np.square(integers(*inputs) - expected).mean() / expected.var()
    found = {"layers": len(program.layers), "cycles": program.cycles, "error": float(error)}
    if simulate:
        found["exact"] = check_on_rtl(program, tuple(part[:2] for part in inputs), False).exact
    return found


def main(
    networks: Annotated[str, typer.Option(help="Comma-separated networks.")] = "",
    scheme: Annotated[str, typer.Option(help="Bits of weights and activations.")] = "W8A8",
    array: Annotated[str, typer.Option(help="The array.")] = "8x8,attention=1,products=1",
    simulate: Annotated[bool, typer.Option(help="Compare with the RTL.")] = True,
) -> None:
    """Print of every network how near to float it is, its cycles, and whether the RTL agrees."""
    table = Table("network", box=None, pad_edge=False)
    for column in ("layers", "error", "cycles", "on RTL"):
        table.add_column(column, justify="right")
    table.add_column("reason")
    exact = True
    for name in networks.split(",") if networks else NETWORKS:
        found = measure(NETWORKS[name], scheme, simulate, array)
        agrees = found.get("exact", True)
        equal = ("exact" if agrees else "MISMATCH") if "exact" in found else ""
        exact &= agrees
        table.add_row(
            name, f"{found.get('layers', '')}",
            f"{found['error']:.5f}" if "error" in found else "",
            f"{found['cycles']:,}" if "cycles" in found else "", equal, found.get("reason", ""),
        )  # fmt: skip
    print_table(table)
    raise typer.Exit(int(not exact))


if __name__ == "__main__":
    typer.run(main)
