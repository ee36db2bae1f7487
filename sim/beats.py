"""A program and its patches as the beats of a bus."""

import numpy as np

from nupes.arch.bus import memory_image, word_bytes
from nupes.sim.jobs import Patch

__all__ = ["beats_of", "patched_beats"]


def beats_of(words: np.ndarray, port_bits: int, data_bits: int) -> np.ndarray:
    """Return port words (n, k) as they lie in memory: beats, uint64 (m, data_bits / 64)."""
    image = memory_image(words, port_bits, data_bits)
    return image.view("<u8").reshape(-1, data_bits // 64).astype(np.uint64)


def patched_beats(words: np.ndarray, patch: Patch, port_bits: int, data_bits: int) -> Patch:
    """Return the beats that a patch of port words changes, and what they become."""
    places, rows = patch
    changed = words.copy()
    changed[places] = rows
    size, beat = word_bytes(port_bits), data_bits // 8
    first, last = places * size // beat, (places * size + size - 1) // beat
    most = (size - 1) // beat + 2
    touched = np.unique(np.concatenate([np.minimum(first + k, last) for k in range(most)]))
    return touched, beats_of(changed, port_bits, data_bits)[touched]
