"""Which networks of torchvision and timm run, with random weights, and why the others do not.

    python -m benchmarks.coverage                      # accepted: quantized, compiled, checked
    python -m benchmarks.coverage --check              # captured: `nupes check` of the others
    python -m benchmarks.coverage --simulate 20        # some of these on the RTL, at a small size
    python -m benchmarks.coverage --table              # what is known, as Markdown

The networks are those of ``benchmarks/zoo.py``, the one with the fewest parameters first. One is
*captured* if ``nupes check`` finds nothing in it that will not run. It is *accepted* if
``nupes.quantize`` makes integers of it (``rtn``, W4A4) which its self-checks find right, in the
layers that ``nupes check`` gives, and if these are compiled for a 16x16 array with products and the
largest activation memory. Networks to be simulated are drawn from the accepted ones: one image,
every output and cycle compared.

Each runs in a process of its own, one at a time. Results are kept in a file as soon as they are
there; what is in it is not measured again unless ``--networks`` names it, such as
``torchvision/resnet*,timm/regnetx_002``. Smaller images (``--size 64``, in a file of their own)
show in less time that a network is accepted, in the layers of ``nupes check``, but not its cycles;
``--check --blocks 2`` (likewise) looks at two of several equal blocks in a row.
"""

import json
import random
from collections.abc import Iterable
from datetime import date
from fnmatch import fnmatch
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

import nupes
from benchmarks.acceptance import MEASURES
from benchmarks.alone import preload, run_alone, runs
from benchmarks.summary import first_reason, print_tables
from benchmarks.zoo import describe_network, libraries, names_of, smallest_networks
from nupes.model.files import write_atomically

VERSIONS = ("nupes", "torch", "torchvision", "timm")


class Survey:
    """Results in a file: by measure and network, with the seed of all."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        if self.found.setdefault("seed", seed) != seed:
            raise nupes.InputError(f"--seed must be {self.found['seed']}, that of {path}")
        for measure in MEASURES:
            self.found.setdefault(measure, {})

    def save(self) -> None:
        """Write the file."""
        write_atomically(self.path, json.dumps(self.found, indent=1).encode())

    def names(self) -> list[str]:
        """Return all networks, the smallest one first; they are looked at once."""
        if "networks" not in self.found:
            print("counting the parameters of networks", flush=True)
            names = names_of(name for _, name in smallest_networks())
            self.found["networks"] = {name: describe_network(name) for name in names}
            self.save()
        networks = self.found["networks"]
        return sorted(networks, key=lambda name: networks[name]["parameters"])

    def candidates(self, measure: str, count: int) -> list[str]:
        """Return the networks to be measured: all, those of which no more is known, or so many
        drawn from the accepted ones."""
        if measure == "check":
            return [name for name in self.names() if name not in self.found["accept"]]
        if measure == "accept":
            return self.names()
        accepted = sorted(name for name, result in self.found["accept"].items() if runs(result))
        return random.Random(self.found["seed"]).sample(accepted, min(count, len(accepted)))

    def measure(
        self,
        measure: str,
        names: Iterable[str],
        size: int,
        seconds: float,
        gib: float,
        blocks: int = 0,
    ) -> None:
        """Measure networks for images of a size, one after another, and keep what is found; only so
        many of equal blocks, if not 0."""
        names, seed = list(names), self.found["seed"]
        function = MEASURES[measure]
        function = partial(function, blocks=blocks) if blocks else function
        for index, name in enumerate(names, 1):
            result = run_alone(function, name, seed, size, seconds=seconds, gib=gib)
            result |= {"date": date.today().isoformat(), "versions": versions()}
            self.found[measure][name] = result
            self.save()
            print(f"{index}/{len(names)} {name}: {first_reason(result) or 'yes'}", flush=True)


def versions() -> str:
    """Return the versions on which results depend."""
    libraries()
    return ", ".join(f"{name} {version(name)}" for name in VERSIONS)


def main(
    check: Annotated[bool, typer.Option("--check", help="Capture networks, no more.")] = False,
    simulate: Annotated[int, typer.Option(help="How many accepted networks to simulate.")] = 0,
    table: Annotated[bool, typer.Option("--table", help="Print tables, measure nothing.")] = False,
    results: Annotated[Path, typer.Option(help="File of results.")] = Path("coverage.json"),
    networks: Annotated[str, typer.Option(help="Patterns of networks to measure anew.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of weights, images and draws.")] = 0,
    size: Annotated[int, typer.Option(help="Height and width of images; 0: the own ones.")] = 0,
    blocks: Annotated[int, typer.Option(help="With --check: equal blocks to keep; 0: all.")] = 0,
    seconds: Annotated[float, typer.Option(help="Limit of time for each network.")] = 3600,
    gib: Annotated[float, typer.Option(help="Limit of memory for each network.")] = 24,
) -> None:
    """Measure the networks that are not measured yet, or print what is known."""
    survey = Survey(results, seed)
    if table:
        print_tables(survey.found)
        return
    if blocks and not check:
        raise nupes.InputError(f"--blocks must be 0 without --check, not {blocks}")
    print(f"seed {seed}; {versions()}", flush=True)
    measure = "check" if check else "simulate" if simulate else "accept"
    if networks:
        patterns = networks.split(",")
        wanted = [name for name in survey.names() if any(fnmatch(name, p) for p in patterns)]
    else:
        candidates, known = survey.candidates(measure, simulate), survey.found[measure]
        wanted = [name for name in candidates if name not in known]
    preload("benchmarks.warm", "benchmarks.acceptance", "nupes.quantizer.pipeline", "nupes.sim")
    survey.measure(measure, wanted, size, seconds, gib, blocks)


if __name__ == "__main__":
    typer.run(main)
