"""The token stage and its reciprocals, as docs/numerics.md writes them."""

from collections.abc import Sequence
from math import isqrt

__all__ = ["root", "scaled", "share", "statistics"]


def scaled(a: int, m: int, k: int) -> int:
    """Return TOK."""
    assert -(2**31) <= a < 2**31
    assert 1 <= m <= 65535
    assert 1 <= k <= 32
    return (a * m + 2 ** (k - 1)) // 2**k


def share(den: int) -> tuple[int, int]:
    """Return m and k of a sum of weights."""
    den = max(den, 2)
    p = 15 + den.bit_length()
    m = (2**p + den // 2) // den
    if m == 65536:
        m, p = 32768, p - 1
    return m, p - 15


def statistics(x: Sequence[int], centered: bool, epsilon: int) -> tuple[int, int]:
    """Return S1 and D of a token."""
    first = sum(x) if centered else 0
    return first, len(x) * sum(value * value for value in x) - first**2 + epsilon


def root(d: int) -> tuple[int, int]:
    """Return m and k of a normalization's D."""
    j = max(0, d.bit_length() - 30)
    j += j % 2
    rest = d // 2**j
    c = (rest.bit_length() + 1) // 2
    return min(65535, isqrt(4 ** (15 + c) // rest)), c + j // 2
