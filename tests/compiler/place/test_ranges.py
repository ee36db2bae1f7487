"""Ranges: which tensors may lie inside others."""

from nupes.arch.config import ArrayConfig
from nupes.compiler.place.ranges import Part, Range, choose_ranges, root_of
from tests.compiler.lowering.test_concat import Graph


def test_a_part_lies_in_one_tensor_from_a_word_on() -> None:
    graph = Graph()
    network = graph.network(graph.conv("b", graph.conv("a", "input", 8), 8))
    parts = [
        Part("input", "x", 0),  # the host writes it
        Part("a", "x", 2),
        Part("a", "x", 8),
        Part("a", "y", 0),
        Part("y", "z", 4),  # goes to the host
        Part("b", "a", 4, 6),
    ]
    found = choose_ranges(network, parts, ArrayConfig(4, 4))
    assert found == {"a": Range("x", 2), "b": Range("a", 1, 6)}
    assert root_of("b", found) == Range("x", 3, 6)
    assert root_of("a", found) == Range("x", 2)
    assert root_of("x", found) == Range("x", 0)
