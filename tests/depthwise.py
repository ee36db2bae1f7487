"""Random networks of depthwise convolutions, and arrays that have no chains for them."""

from dataclasses import dataclass
from typing import ClassVar

from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Operator
from nupes.model.tensor import Tensor
from tests.codebooks import held_codebooks
from tests.networks import Builder, networks

__all__ = ["Unchained", "depthwise_networks"]


@dataclass(frozen=True)
class Unchained(ArrayConfig):
    """An array without chains of taps."""

    @property
    def chains(self) -> bool:
        """Whether columns have chains of taps."""
        return False


class Depthwise(Builder):
    """A network whose layers are depthwise convolutions."""

    most_channels: ClassVar[int] = 14

    def operator(self, last: bool) -> tuple[Operator, list[Tensor]]:
        """Draw an operator and what it reads."""
        source = self.recent()
        return self.conv(source, ["depthwise"]), [source]


def depthwise_networks(config: ArrayConfig) -> st.SearchStrategy[IntegerNetwork]:
    """Draw a network of depthwise convolutions whose codebooks an array's cells hold."""
    books = held_codebooks(config, True), held_codebooks(config, False)
    return networks(3, *books, make=Depthwise)
