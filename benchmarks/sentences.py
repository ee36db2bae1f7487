"""A sentence encoder in integers, all-MiniLM-L6-v2: how near to float, and whether the RTL agrees.

    python -m benchmarks.sentences --data DIR [--schemes W8A8,W4A4] [--methods rtn,search]
    python -m benchmarks.sentences --data DIR --pairs 100 --simulate 20

``DIR/transformers`` holds ``all-MiniLM-L6-v2.safetensors`` and its ``.tokenizer.json``, which
``benchmarks.prepare`` fetches, and the STS benchmark, ``sts-dev.csv`` to calibrate with and
``sts-test.csv``. The error is the squared one of the normalized embeddings over their variance; the
correlation is Spearman's, of cosines with what people say of pairs. The exit status is 1 if any
integer or any cycle of the RTL differs.
"""

import csv
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks.artifacts import Bits, Overrides, Wishes, Without, quantize_once
from benchmarks.extras import bring
from benchmarks.fitting import compile_fitting
from benchmarks.hardware import check_on_rtl
from benchmarks.pretrained import need
from nupes.console import print_table
from nupes.examples.pretrained.minilm import BertShape, MiniLM, load_minilm
from nupes.inputs import parse_array

BATCH = 64
"""Sentences at a time."""

SCORE, SENTENCES = 4, (5, 6)
"""Columns of the STS benchmark."""

Infer = Callable[..., np.ndarray]
"""What the network is given, to sentences (b, c)."""


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sentences, each the ids of its tokens, and the network that they are for."""

    ids: list[list[int]]
    network: MiniLM

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, numbers: Iterable[int]) -> tuple[np.ndarray, ...]:
        """Return what the network is given for some sentences."""
        return tuple(x.numpy() for x in self.network.inputs([self.ids[i] for i in numbers]))

    def of_different_lengths(self, count: int) -> list[int]:
        """Return so many sentences, by number, from the shortest to the longest one: where there
        are enough lengths, no two have one."""
        order = sorted(range(len(self)), key=lambda i: len(self.ids[i]))
        first = {len(self.ids[i]): i for i in reversed(order)}
        some = sorted(first.values(), key=order.index) if len(first) >= count else order
        return [some[i] for i in np.linspace(0, len(some) - 1, min(count, len(some))).astype(int)]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of sentences, the first ones in front, and how alike people find them (n,)."""

    sentences: Sentences
    scores: np.ndarray


def read_tokenizer(path: Path) -> Any:
    """Return what makes tokens of words: all of them, and none more."""
    tokenizer = bring("tokenizers", "benchmarks").Tokenizer.from_file(str(need(path)))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def read_pairs(path: Path, tokenizer: Any, network: MiniLM, count: int) -> Pairs:
    """Return so many pairs of a file of the STS benchmark, evenly spaced."""
    with need(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = [rows[i] for i in np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
    texts = [row[column] for column in SENTENCES for row in rows]
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    return Pairs(Sentences(ids, network), np.array([float(row[SCORE]) for row in rows]))


def embed(infer: Infer, sentences: Sentences) -> np.ndarray:
    """Return the embeddings (n, c), each of length 1."""
    numbers = range(len(sentences))
    chunks = [numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH)]
    found = np.concatenate([infer(*sentences.take(chunk)) for chunk in chunks])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def correlation(embeddings: np.ndarray, scores: np.ndarray) -> float:
    """Return Spearman's correlation of the cosines of pairs with scores."""
    first, second = np.split(embeddings, 2)
    return float(spearmanr((first * second).sum(1), scores).statistic)


def error(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Return the squared error over the variance, and its standard error over sentences."""
    variance = np.square(expected - expected.mean(0)).sum(1).mean()
    each = np.square(found - expected).sum(1) / variance
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))


def main(
    data: Annotated[Path, typer.Option(help="Directory with the weights and data.")] = Path("data"),
    schemes: Annotated[str, typer.Option(help="Comma-separated schemes.")] = "W8A8",
    methods: Annotated[str, typer.Option(help="Comma-separated methods.")] = "rtn,search",
    pairs: Annotated[int, typer.Option(help="How many test pairs.")] = 1379,
    tokens: Annotated[int, typer.Option(help="The longest sentence, in tokens.")] = 48,
    calibration: Annotated[int, typer.Option(help="Sentences to calibrate with.")] = 256,
    bits: Bits = "",
    without: Without = "",
    override: Overrides = None,
    array: Annotated[str, typer.Option(help="The array.")] = "16x16,attention=1",
    simulate: Annotated[int, typer.Option(help="Sentences on the RTL.")] = 0,
    stored: Annotated[bool, typer.Option(help="All that is stored, for a sentence.")] = False,
    out: Annotated[Path, typer.Option(help="Directory for artifacts.")] = Path("out"),
) -> None:
    """Print what integers lose of embeddings and of the correlation, and the cycles."""
    folder = data / "transformers"
    network = load_minilm(need(folder / "all-MiniLM-L6-v2.safetensors"), BertShape(tokens))
    tokenizer = read_tokenizer(folder / "all-MiniLM-L6-v2.tokenizer.json")
    test = read_pairs(folder / "sts-test.csv", tokenizer, network, pairs)
    known = read_pairs(folder / "sts-dev.csv", tokenizer, network, calibration).sentences
    samples = known.take(range(calibration))  # the first ones of as many pairs

    def run_float(*inputs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network.module(*map(torch.from_numpy, inputs)).numpy()

    expected = embed(run_float, test.sentences)
    table = Table("scheme", "method", box=None, pad_edge=False)
    for column in ("error", "+-", "correlation", "seconds", "cycles", "on RTL"):
        table.add_column(column, justify="right")
    before = correlation(expected, test.scores)
    table.add_row("float", "", "", "", f"{100 * before:.2f}", "", "", "")
    wishes = Wishes.parse(override, bits, without)
    exact = True
    for scheme in schemes.split(","):
        for method in methods.split(","):
            start = time.monotonic()
            integers = quantize_once(
                out, f"minilm-{tokens}", network.module, scheme, method, samples,
                wishes,
            )  # fmt: skip
            seconds = time.monotonic() - start
            found = embed(integers, test.sentences)
            program = compile_fitting(integers, parse_array(array))
            equal = ""
            if simulate:
                few = test.sentences.take(test.sentences.of_different_lengths(simulate))
                agrees = check_on_rtl(program, few, stored).exact
                equal = f"{len(few[0])} exact" if agrees else "MISMATCH"
                exact &= agrees
            away, noise = error(expected, found)
            table.add_row(
                scheme, method, f"{away:.5f}", f"{noise:.5f}",
                f"{100 * correlation(found, test.scores):.2f}", f"{seconds:.0f}",
                f"{program.cycles:,}", equal,
            )  # fmt: skip
    print_table(table)
    raise typer.Exit(int(not exact))


if __name__ == "__main__":
    typer.run(main)
