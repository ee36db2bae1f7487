"""The facts of a report against the network that they are of."""

import numpy as np
import pytest

import nupes
from nupes.explore.sweeps import sweep
from nupes.model.arithmetic import Y_RANGE
from nupes.model.errors import InputError
from nupes.report.gather import (
    gather_layers,
    gather_size,
    mark_pareto,
    observe_codes,
    parse_accuracy,
)
from tests.report.facts import full_facts
from tests.small import ARRAY, small_network


def test_sizes_are_those_of_the_codes() -> None:
    size = gather_size(small_network(), 5000)
    weights = 6 * 9 + 5 * 6 * 16
    assert (size.file, size.packed, size.floats) == (5000, weights // 2, 4 * weights)
    assert size.ratio == 8


def test_layers_without_a_program_or_images() -> None:
    conv, linear = gather_layers(small_network())
    assert (conv.operator, linear.operator) == ("conv 3x3", "linear")
    assert (conv.macs, linear.macs) == (864, 480)
    assert conv.parameters == 6 * 9 + 6
    assert conv.weights is not None
    assert conv.weights.total == 54
    assert conv.output is not None
    assert conv.output.total == 0
    assert conv.output_range == (0, 7.5)
    assert linear.output is None
    assert conv.cost is conv.sqnr is conv.saturated is None


def test_costs_are_the_programs() -> None:
    program = nupes.compile(small_network(), ARRAY)
    layers = gather_layers(small_network(), program)
    assert [layer.cost and layer.cost["cycles"] for layer in layers] == [
        layer.cycles for layer in program.layers
    ]


def test_what_the_quantizer_recorded() -> None:
    conv, linear = full_facts().layers
    assert (conv.sqnr, conv.weight_sqnr, conv.moved, conv.beyond) == (18.5, 21.0, 0.1, 0.02)
    assert linear.sqnr is None


def test_observed_codes_are_those_that_are_stored() -> None:
    network = small_network()
    images = np.random.default_rng(0).uniform(0, 15, (6, 1, 4, 4))
    stored = dict((layer.name, values) for layer, values in network.trace(network.encode(images)))
    observed = observe_codes(network, images)
    codes, saturated, results = observed["conv"]
    assert codes is not None
    np.testing.assert_array_equal(codes.counts, np.bincount(stored["conv"].ravel(), minlength=16))
    assert codes.at_ends == (stored["conv"] == 15).sum()
    assert results == stored["conv"].size
    codes, saturated, results = observed["linear"]
    assert codes is None
    y = stored["linear"]
    assert (saturated, results) == (int(np.isin(y, Y_RANGE).sum()), y.size)


def test_pareto_marks_what_nothing_beats() -> None:
    points = sweep(
        small_network(), [nupes.ArrayConfig(4, 4), nupes.ArrayConfig(4, 4, acc_depth=2048)]
    )
    marked = mark_pareto(points)
    assert [best for _, best in marked] == [True, False]
    assert marked[0][0].memory_bits < marked[1][0].memory_bits


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"bits": 4}, "accuracies must be a JSON list of objects, not dict"),
        ([{"bits": 4}], 'accuracy 0 must have numbers "bits" and "accuracy", not '),
        ([{"bits": 0, "accuracy": 0.9}], "accuracy 0 must have bits from 1 to 32, not 0"),
        ([{"bits": 4, "accuracy": 98}], "accuracy 0 must be a fraction from 0 to 1, not 98"),
    ],
)
def test_bad_accuracies(data: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_accuracy(data)
