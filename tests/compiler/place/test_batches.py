"""Batches: as many layers share their tiles as fit."""

from hypothesis import given
from hypothesis import strategies as st

from nupes.compiler.place.batches import Batch, share_most


@given(st.integers(2, 9), st.integers(0, 9), st.integers(0, 30), st.integers(0, 40))
def test_the_fewest_layers_that_fit_run_image_by_image(
    images: int, least: int, more: int, fitting: int
) -> None:
    layers = least + more
    found = share_most(images, least, layers, lambda batch: batch.apart >= fitting)
    assert found == Batch(images, min(max(least, fitting), layers))


@given(st.integers(2, 9), st.sets(st.integers(0, 30)))
def test_what_is_found_fits_or_every_layer_runs_image_by_image(
    images: int, fitting: set[int]
) -> None:
    found = share_most(images, 0, 30, lambda batch: batch.apart in fitting)
    assert found.apart in fitting or found.apart == 30


def test_one_image_shares_nothing() -> None:
    assert share_most(1, 0, 5, lambda batch: True) == Batch(1, 5)
