"""What measures of mutants share: their options, and the file that keeps what was judged."""

import argparse
import json
from pathlib import Path
from typing import Any

__all__ = ["known", "parser_of", "save"]


def parser_of(command: str, description: str | None, mutants: int) -> argparse.ArgumentParser:
    """Return the parser of a measure that judges so many mutants of a block."""
    parser = argparse.ArgumentParser(prog=f"python -m {command}", description=description)
    parser.add_argument("blocks", nargs="*", help="names of blocks, such as encoder; all of them")
    parser.add_argument("--mutants", type=int, default=mutants, help="of each block, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="keep what was judged in this file")
    return parser


def known(state: Path | None) -> dict[str, Any]:
    """Return what was judged before, by a file that may not be there yet."""
    return json.loads(state.read_text()) if state and state.exists() else {}


def save(found: dict[str, Any], state: Path | None) -> None:
    """Keep what was judged in a file, if there is to be one."""
    if state:
        state.write_text(json.dumps(found, indent=1))
