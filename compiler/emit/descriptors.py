"""Descriptors: what the tiles of a layer have in common, packed by the tables of ``arch.isa``."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property

from nupes.arch.isa import DESCRIPTOR, Scaled, pack, plane_cycles
from nupes.compiler.lowering.walks import Walk

__all__ = ["Descriptor", "Results", "TokenFields"]


@dataclass(frozen=True)
class Results:
    """Where a layer's results go and what they are added to: fields of a descriptor."""

    out_step: int = 0
    out_plane_step: int = 0
    out_planes: int = 1
    residual_step: int = 0
    residual_plane_step: int = 0
    residual_planes: int = 0
    encoder_slot: int = 0
    encoder_depth: int = 0
    out_row_step: int = 0
    residual_row_step: int = 0

    @cached_property
    def pace(self) -> int:
        """Cycles that a word holds the stream: until its residual is read and its result
        written."""
        return max(plane_cycles(self.out_planes), plane_cycles(self.residual_planes))


@dataclass(frozen=True, slots=True)
class TokenFields:
    """What only arrays with attention have: fields of a descriptor."""

    out_wide: bool = False
    residual_wide: bool = False
    scaled: Scaled = Scaled.NONE
    statistic: int = 0
    linear: bool = False
    odd: bool = False
    level_offset: int = 0
    edge: int = 0
    channels: int = 0
    weight_step: int = 0
    epsilon: int = 0
    table: int = 0


@dataclass(frozen=True)
class Descriptor:
    """What the tiles of a layer have in common."""

    walk: Walk
    results: Results
    tokens: TokenFields = TokenFields()

    @cached_property
    def packed(self) -> int:
        """The descriptor as an integer."""
        results = self.results
        # The planes of wide tensors are the array's; their fields are not read.
        if self.tokens.out_wide:
            results = replace(results, out_planes=0)
        if self.tokens.residual_wide:
            results = replace(results, residual_planes=0)
        fields = asdict(self.walk) | asdict(results) | asdict(self.tokens)
        return pack(DESCRIPTOR, fields | {"pace": self.results.pace})
