"""Integer networks that a benchmark has made before are read from their files."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import nn

import nupes

__all__ = ["quantize_once"]


def quantize_once(
    folder: Path,
    name: str,
    module: nn.Module,
    scheme: str,
    method: str,
    samples: np.ndarray | tuple[np.ndarray, ...],
    overrides: Mapping[str, str],
) -> nupes.IntegerNetwork:
    """Return a network from its file in ``folder``, or quantize it and write that."""
    count = len(samples[0] if isinstance(samples, tuple) else samples)
    part = "-".join(re.sub(r"[^\w=]+", "", "=".join(item)) for item in overrides.items())
    path = (
        folder / f"{'-'.join(filter(None, (name, scheme, part, method, str(count))))}.safetensors"
    )
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        nupes.quantize(module, scheme, samples, method=method, overrides=overrides).save(path)
    return nupes.load(path)
