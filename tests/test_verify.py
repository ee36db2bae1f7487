"""The comparison itself: it must find what differs, not only what agrees."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from rich.text import Text

import nupes
from nupes.compiler.program import compile
from nupes.verify import Check, LayerCheck, check_layers, check_outputs, observe, summary
from tests.compiler.lowering.test_concat import Graph
from tests.export.cases import renamed
from tests.images import images_of
from tests.networks import JOINS, networks
from tests.small import ARRAY, small_network


def test_exact_run(running: Callable[..., nupes.Simulator]) -> None:
    program = compile(small_network(), ARRAY)
    check = check_outputs(running(ARRAY), program, images_of(program.network, 3))
    assert check.exact
    assert summary(check).startswith("[bold green]bit-exact 3/3 images, 2/2 layers[/]")


def test_a_wrong_prediction_is_found(running: Callable[..., nupes.Simulator]) -> None:
    program = compile(small_network(), ARRAY)
    first, last = program.layers
    wrong = replace(program, layers=(replace(first, cycles=first.cycles + 1), last))
    check = check_outputs(running(ARRAY), wrong, images_of(program.network, 2))
    assert (check.exact, check.exact_images, check.exact_layers) == (False, 2, 1)
    assert check.layers[0].unexpected_cycles == (first.cycles,)
    assert f"layer conv: predicted {first.cycles + 1:,} cycles, measured" in summary(check)


def test_a_wrong_layer_is_found(running: Callable[..., nupes.Simulator]) -> None:
    """The model stores another code in the first layer of the second image alone."""
    program = compile(small_network(), ARRAY)
    images = images_of(program.network, 3)
    check = check_outputs(running(ARRAY), program, images)
    network = replace(program.network)
    honest = network.trace

    def trace(codes: np.ndarray) -> list:
        steps = [(layer, values.copy()) for layer, values in honest(codes)]
        steps[0][1][1, 0, 0, 0] ^= 1
        return steps

    object.__setattr__(network, "trace", trace)
    check = check_layers(running(ARRAY), replace(program, network=network), check, images)
    assert (check.exact, check.exact_layers) == (False, 1)
    assert "layer conv: values equal in 2 of 3 images" in summary(check)


def test_a_layer_that_moves_nothing(running: Callable[..., nupes.Simulator]) -> None:
    graph = Graph()
    parts = [graph.conv(name, "input", ARRAY.lanes) for name in ("a", "b", "c")]
    network = graph.network(graph.concat("all", *parts))
    program, images = compile(network, ARRAY), images_of(network, 2)
    check = check_layers(
        running(ARRAY), program, check_outputs(running(ARRAY), program, images), images
    )
    assert check.exact
    found = {layer.name: layer for layer in check.layers}
    assert (found["all"].cycles, found["all"].values_exact) == (0, 2)


@settings(max_examples=30)
@given(networks(also=JOINS))
def test_observed_layer_gives_its_levels(network: nupes.IntegerNetwork) -> None:
    codes = network.encode(images_of(network, 2))
    for index, (layer, values) in enumerate(network.trace(codes)):
        if not layer.wide:
            levels = layer.output.codebook.levels[values].transpose(0, 3, 1, 2)
            np.testing.assert_array_equal(observe(network, index).run(codes), levels)


def test_any_layer_may_be_called_as_the_one_that_observes() -> None:
    names = ["observed levels", "observed levels_"]
    network = renamed(small_network(), names, ["nupes_observe", *names])
    codes = network.encode(images_of(network, 2))
    _, values = next(network.trace(codes))
    levels = network.layers[0].output.codebook.levels[values].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(observe(network, 0).run(codes), levels)


def test_names_are_no_markup() -> None:
    layer = LayerCheck("conv[bold]", 5, (6,), 3, 2)
    text = Text.from_markup(summary(Check(3, 3, 5, (5,), (layer,)))).plain
    assert "layer conv[bold]: predicted 5 cycles, measured 6" in text
    assert "layer conv[bold]: values equal in 2 of 3 images" in text
