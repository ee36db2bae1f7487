"""A language model in integers, stories260K: how near to float, and whether the RTL agrees.

    python -m benchmarks.language --data DIR [--schemes W8A8,W4A4] [--methods rtn,search]
    python -m benchmarks.language --data DIR --bits keys=8,values=8 --simulate 2

``DIR/transformers`` holds ``stories260K.bin``, ``tok512.bin`` and ``tiny_stories.txt``, whose
first windows calibrate and whose next ones test. The loss is the mean of the tokens' negative
logarithms of probability, in nats; the divergence the mean one of the words' distribution from that
of the float network; their standard errors are over windows. The exit status is 1 if any integer or
any cycle of the RTL differs.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table

from benchmarks.artifacts import Bits, Overrides, Wishes, Without, quantize_once
from benchmarks.distributions import divergence, log_distribution
from benchmarks.extras import bring
from benchmarks.fitting import compile_fitting
from benchmarks.hardware import check_on_rtl
from benchmarks.pretrained import need
from nupes.console import print_table
from nupes.examples.pretrained.llama import load_llama
from nupes.inputs import parse_array

SPACE = "\u2581"
"""What stands for a space in the words of a tokenizer."""

BEGIN = 1
"""The token in front of a text."""

BATCH = 16
"""Windows at a time."""


def read_tokenizer(path: Path) -> Any:
    """Return what makes tokens of words, from a file of llama2.c: of each token its score, its
    length and its bytes. Of two neighbours that are a token together, those of the highest score
    are joined first."""
    data, at, vocabulary = need(path).read_bytes(), 4, dict[str, int]()
    while at < len(data):
        (length,) = np.frombuffer(data, "<i4", 1, at + 4).tolist()
        token = data[at + 8 : at + 8 + length].decode()
        vocabulary.setdefault(token.replace(" ", SPACE), len(vocabulary))
        at += 8 + length
    merges = [
        (token[:cut], token[cut:])
        for token in vocabulary
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    tokenizers = bring("tokenizers", "benchmarks")
    model = tokenizers.models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(model)
    steps = tokenizers.normalizers
    spaces = [steps.Prepend(SPACE), steps.Replace(" ", SPACE)]
    tokenizer.normalizer = steps.Sequence(spaces)
    return tokenizer


def read_windows(path: Path, tokenizer: Any, tokens: int, count: int) -> np.ndarray:
    """Return the first windows (count, tokens + 1) of a text: what is read, and one token more."""
    text = need(path).read_text(encoding="utf-8")[: count * tokens * 8]
    ids = tokenizer.encode(text).ids[: count * tokens]
    rows = np.array(ids).reshape(-1, tokens)
    return np.concatenate([np.full((len(rows), 1), BEGIN), rows], axis=1)


def log_probabilities(infer: Any, windows: np.ndarray) -> torch.Tensor:
    """Return the logarithms (n, t, words) of the next words' probabilities."""
    starts = range(0, len(windows), BATCH)
    found = np.concatenate([infer(windows[start : start + BATCH, :-1]) for start in starts])
    return log_distribution(found)


def loss(found: torch.Tensor, windows: np.ndarray) -> torch.Tensor:
    """Return the mean loss (n,) of each window, in nats for a token."""
    following = torch.from_numpy(windows[:, 1:, None])
    return -found.gather(2, following).mean((1, 2))


def with_error(values: torch.Tensor, digits: int) -> str:
    """Return a mean with its standard error."""
    noise = float(values.std()) / len(values) ** 0.5
    return f"{float(values.mean()):.{digits}f} +- {noise:.{digits}f}"


def main(
    data: Annotated[Path, typer.Option(help="Directory with the weights and data.")] = Path("data"),
    schemes: Annotated[str, typer.Option(help="Comma-separated schemes.")] = "W8A8,W4A4",
    methods: Annotated[str, typer.Option(help="Comma-separated methods.")] = "rtn,search",
    tokens: Annotated[int, typer.Option(help="Tokens of a window.")] = 128,
    calibration: Annotated[int, typer.Option(help="Windows to calibrate with.")] = 64,
    windows: Annotated[int, typer.Option(help="Windows to test.")] = 80,
    bits: Bits = "",
    without: Without = "",
    override: Overrides = None,
    array: Annotated[str, typer.Option(help="The array.")] = "16x16,attention=1,products=1",
    simulate: Annotated[int, typer.Option(help="Windows on the RTL.")] = 0,
    stored: Annotated[bool, typer.Option(help="All that is stored, for a window.")] = False,
    out: Annotated[Path, typer.Option(help="Directory for artifacts.")] = Path("out"),
) -> None:
    """Print the loss, the divergence from float and the cycles of a language model."""
    folder = data / "transformers"
    module = load_llama(need(folder / "stories260K.bin"), tokens)
    tokenizer = read_tokenizer(folder / "tok512.bin")
    text = read_windows(folder / "tiny_stories.txt", tokenizer, tokens, calibration + windows)
    known, test = text[:calibration, :-1], text[calibration:]

    def run_float(ids: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(ids)).numpy()

    expected = log_probabilities(run_float, test)
    table = Table("scheme", "method", box=None, pad_edge=False)
    for column in ("loss", "divergence", "seconds", "cycles", "on RTL"):
        table.add_column(column, justify="right")
    table.add_row("float", "", with_error(loss(expected, test), 3), "", "", "", "")
    wishes = Wishes.parse(override, bits, without)
    exact = True
    for scheme in schemes.split(","):
        for method in methods.split(","):
            start = time.monotonic()
            integers = quantize_once(
                out, f"stories-{tokens}", module, scheme, method, (known,),
                wishes,
            )  # fmt: skip
            seconds = time.monotonic() - start
            found = log_probabilities(integers, test)
            program = compile_fitting(integers, parse_array(array))
            equal = ""
            if simulate:
                agrees = check_on_rtl(program, (test[:simulate, :-1],), stored).exact
                equal = f"{simulate} exact" if agrees else "MISMATCH"
                exact &= agrees
            away = divergence(expected, found).mean(1)
            table.add_row(
                scheme, method, with_error(loss(found, test), 3), with_error(away, 4),
                f"{seconds:.0f}", f"{program.cycles:,}", equal,
            )  # fmt: skip
    print_table(table)
    raise typer.Exit(int(not exact))


if __name__ == "__main__":
    typer.run(main)
