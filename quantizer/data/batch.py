"""Batches: what the host gives a network, one tensor for each of its inputs."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of all inputs of a network: ``parts`` (n, ...), in the order of its inputs, all of
    the same n."""

    parts: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.parts)

    def __getitem__(self, samples: Tensor | slice) -> "Batch":
        return Batch(tuple(part[samples] for part in self.parts))

    def split(self, size: int) -> list["Batch"]:
        """Return the samples in turn, at most so many at a time."""
        return [Batch(parts) for parts in zip(*(x.split(size) for x in self.parts), strict=True)]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of one sample of each input."""
        return tuple(tuple(part.shape[1:]) for part in self.parts)
