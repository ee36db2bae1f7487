"""Problems of the weight solver: weights, moments and codebooks."""

import numpy as np
from hypothesis import strategies as st

from nupes.model.codebook import Codebook, make_codebook, table_codebook

CODEBOOKS = [
    make_codebook("uniform", 2, True),
    make_codebook("uniform", 4, True),
    make_codebook("power", 3, True, 127, 0.5),
    make_codebook("power-midrise", 2, True, 127, 0.6),
    table_codebook([-128, -64, -32, -1, 2, 40, 90, 127], 3),
]


def moments(groups: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the mean outer product of correlated inputs, (g, k, k)."""
    inputs = rng.normal(size=(groups, 4 * size, size)) + rng.normal(size=(groups, 4 * size, 1))
    return inputs.transpose(0, 2, 1) @ inputs / (4 * size)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Codebook]:
    """Draw weights (g, n, k), moments or their diagonals, and a codebook."""
    groups, rows, size = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 10))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    weight = rng.laplace(size=(groups, rows, size))
    gram = moments(groups, size, rng)
    if draw(st.booleans()):
        gram = np.einsum("gkk->gk", gram).copy()
    if draw(st.booleans()):
        weight[0, 0] = 0
    return weight, gram, draw(st.sampled_from(CODEBOOKS))
