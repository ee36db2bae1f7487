"""Masked pairs that are left out: what is computed is enough, and nothing reads what is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nupes.compiler.emit.schedules as schedules
from nupes.arch.config import ArrayConfig
from nupes.compiler.emit.instructions import Tile
from nupes.compiler.lowering.hidden import plan_pixels, plan_words
from nupes.compiler.lowering.passes import Stored
from nupes.compiler.program import Program, compile
from nupes.model.network import IntegerNetwork
from nupes.verify import observe
from tests.compiler.test_program import execute
from tests.images import images_of
from tests.test_masks import lengths, masked

ARRAYS = st.builds(
    lambda size, bits, depth: ArrayConfig(*size, code_bits=bits, acc_depth=depth, attention=True),
    st.sampled_from([(4, 4), (4, 2), (4, 8), (8, 4)]), st.integers(2, 8),
    st.sampled_from([4, 8, 16, 64]),
)  # fmt: skip


@st.composite
def pairs(draw: st.DrawFn) -> np.ndarray:
    """Draw which pairs of queries and keys count: causal, a window, blocks, any ones."""
    tokens = draw(st.integers(2, 25))
    i, j = np.indices((tokens, tokens))
    kind, size = (
        draw(st.sampled_from(["causal", "window", "blocks", "any"])),
        draw(st.integers(1, 9)),
    )
    if kind == "causal":
        return j <= i
    if kind == "window":
        return (j <= i) & (j > i - size)
    if kind == "blocks":
        return i // size == j // size
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return (rng.random((tokens, tokens)) < draw(st.sampled_from([0.02, 0.3]))) | (i == j)


@given(pairs(), st.sampled_from([2, 4, 8, 16]))
def test_plans_have_every_pair_that_counts(allowed: np.ndarray, lanes: int) -> None:
    tokens = len(allowed)
    for plan in (plan_pixels(allowed, lanes), plan_words(allowed, lanes)):
        computed = np.zeros_like(allowed)
        for word, count in zip(plan.words, plan.counts, strict=True):
            computed[:count, word * lanes : (word + 1) * lanes] = True
        assert computed[allowed].all()
        assert len(set(plan.words)) == len(plan.words)
        assert plan.counts[0] == plan.counts[-1] == tokens
    ragged = bool(tokens % lanes)
    assert not ragged or plan_pixels(allowed, lanes).words[-1] == tokens // lanes
    words = plan_words(allowed, lanes).words
    assert list(words) == list(range(words[0], words[-1] + 1))


@settings(max_examples=30)
@given(pairs(), ARRAYS, st.integers(0, 2**32 - 1), st.booleans())
def test_nothing_reads_what_is_left_out(
    allowed: np.ndarray, config: ArrayConfig, seed: int, ones: bool
) -> None:
    network = masked(len(allowed), allowed, seed)
    codes = network.encode(images_of(network, 1))
    garbage = (1 << config.lanes * config.code_bits) - 1 if ones else 0
    found = execute(compile(network, config), codes[0], garbage=garbage)
    np.testing.assert_array_equal(found, network.run(codes)[0])


def work_of(program: Program) -> int:
    """Return the pixels that stream through all passes of matrices from memory."""
    tiles = [item for item in program.schedule.instructions if isinstance(item, Tile)]
    return sum(tile.count for tile in tiles if isinstance(tile.payload, Stored))


def both(
    network: IntegerNetwork, config: ArrayConfig, patch: pytest.MonkeyPatch
) -> tuple[Program, Program]:
    """Return the program, and the one that leaves nothing out."""
    program = compile(network, config)
    with patch.context() as context:
        context.setattr(schedules, "leave_out", lambda network, works, config: works)
        return program, compile(network, config)


@pytest.mark.parametrize("depth", [8, 64])
def test_a_causal_mask_leaves_out_almost_half(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, config = 64, ArrayConfig(4, 4, acc_depth=depth, attention=True)
    program, whole = both(masked(tokens, lengths(tokens), 0), config, monkeypatch)
    assert program.cycles < whole.cycles
    assert work_of(program) < 0.6 * work_of(whole)


def test_tiles_that_are_masked_as_a_whole_are_not_issued(monkeypatch: pytest.MonkeyPatch) -> None:
    i, j = np.indices((32, 32))
    config = ArrayConfig(4, 4, acc_depth=8, attention=True)
    program, whole = both(masked(32, i // 8 == j // 8, 0), config, monkeypatch)
    assert work_of(program) == work_of(whole) / 4  # 4 of 16 blocks of pairs


def test_a_mask_that_is_an_input_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ArrayConfig(4, 4, acc_depth=16, attention=True)
    program, whole = both(masked(16, np.ones((1, 16), bool), 0), config, monkeypatch)
    assert program.cycles == whole.cycles


def test_scores_that_something_else_reads_are_all_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, network = ArrayConfig(4, 4, acc_depth=16, attention=True), masked(16, lengths(16), 0)
    index = [layer.output.name for layer in network.layers].index("scores")
    observed = observe(network, index + 1)  # the numerators are an output, too
    program, whole = both(observed, config, monkeypatch)
    assert work_of(program) == work_of(whole)
    program, whole = both(network, config, monkeypatch)
    assert work_of(program) < work_of(whole)
