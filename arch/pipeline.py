"""The pipeline: how many cycles lie between what happens to a word, whatever the program."""

from functools import cached_property

__all__ = ["RECIPROCAL_CYCLES", "TOKENS_UNDER_WAY", "Pipeline", "clog2"]

RECIPROCAL_CYCLES = 24
"""Latency of the reciprocal unit."""

TOKENS_UNDER_WAY = RECIPROCAL_CYCLES + 1
"""Most tokens whose factors are being made: one ends in the cycle in which another's is there."""


def clog2(value: int) -> int:
    """Return the number of bits that count ``value`` things: ``ceil(log2(value))``, at least 0."""
    return max(value - 1, 0).bit_length()


class Pipeline:
    """The latencies of an array of ``rows`` x ``cols`` cells: see docs/timing.md."""

    rows: int
    cols: int
    products: bool
    attention: bool
    tensor_bits: int

    @property
    def encoder_stages(self) -> int:
        """Comparisons of the threshold search: one more than the widest code."""
        return self.tensor_bits + 1

    @property
    def issue_to_psum(self) -> int:
        """Cycles from the issue of a word to lane 0's partial sum: memory read, decode, one per
        row."""
        return 2 + self.rows

    @property
    def product_stages(self) -> int:
        """Cycles from a lane's partial sum to the accumulator: 1 for the multiplier of products."""
        return int(self.products)

    @property
    def token_stages(self) -> int:
        """Cycles of the token stage: subtract, multiply, shift, in arrays with attention."""
        return 3 * self.attention

    @property
    def control_lead(self) -> int:
        """Cycles by which a lane's control precedes its partial sum: one, or one more than the
        residual's digits."""
        if self.attention and not self.products:
            return 3
        return 1 + self.product_stages

    @property
    def issue_to_residual(self) -> int:
        """Cycles from the issue of a word to its pixel's residual digits at lane 0: in time for
        the residual term, for the product with the partial sum, or for a term in place of it."""
        if self.products or self.attention:
            return self.issue_to_psum - self.control_lead + 1
        return self.issue_to_psum + 1

    @property
    def lane_latency(self) -> int:
        """Cycles from a lane's partial sum to its code: multiply (in arrays with products),
        accumulate, the token stage, requantize (4), search, map."""
        return self.product_stages + 5 + self.token_stages + self.encoder_stages

    @property
    def issue_to_factor(self) -> int:
        """Cycles from the issue of a token's last word to its factor in the token memory: memory
        read, level, reduction (2), sum, reciprocal."""
        return 5 + RECIPROCAL_CYCLES

    @property
    def issue_to_gathered(self) -> int:
        """Cycles from the issue of a pixel's last gathered word to its factor in the token memory:
        its results are where a MEASURE's words are a cycle after their issue."""
        return self.issue_to_write - 2 + self.issue_to_factor

    @cached_property
    def issue_to_write(self) -> int:
        """Cycles from the issue of a word to the write of its (first) result word."""
        return self.issue_to_psum + self.lane_latency + self.cols

    @property
    def issue_to_pool(self) -> int:
        """Cycles from the issue of a max-pool pixel's last word to its maximum: memory read, join,
        compare."""
        return 3

    @property
    def store_depth(self) -> int:
        """Words of the store queue: covers the cycles from the issue of a word until it is taken,
        so a ready memory never stalls it."""
        return 4

    @property
    def result_depth(self) -> int:
        """Words of the result queue towards the host: covers the pipeline, so a ready host never
        stalls it."""
        return 1 << clog2(self.issue_to_write + 4)
