"""A report of the small network with everything that a page can show."""

import numpy as np

import nupes
from nupes.explore.sweeps import sweep
from nupes.report.gather import Accuracy, gather_layers, gather_size, observe_codes, parse_accuracy
from nupes.report.page import Facts
from nupes.synthesis.areas import PARTS, ArrayArea
from nupes.synthesis.tools import Area
from tests.small import ARRAY, small_network

__all__ = ["AREA", "full_facts", "plain_facts"]

AREA = ArrayArea(ARRAY, "xilinx", {name: Area(luts=100, flops=20) for name in PARTS})

RESULTS = [
    {"bits": bits, "accuracy": value, "series": series}
    for series, values in (("power", (0.9, 0.97, 0.98)), ("$_{", (0.6, 0.95, 0.98)))
    for bits, value in zip((2, 3, 4), values, strict=True)
]


def full_facts() -> Facts:
    """Return facts of the small network on its array, with images, arrays and accuracies."""
    network = small_network()
    entry = {"name": "conv", "weights": {"sqnr": 21.0, "moved": 0.1, "beyond": 0.02}, "sqnr": 18.5}
    object.__setattr__(network, "metadata", {"scheme": "W4A4", "layers": [entry]})
    images = np.random.default_rng(0).uniform(0, 15, (6, 1, 4, 4))
    program = nupes.compile(network, ARRAY)
    arrays = [nupes.ArrayConfig(size, size) for size in (2, 4, 8)]
    return Facts(
        title="small & <fine>",
        network=network,
        size=gather_size(network, 4000),
        layers=gather_layers(network, program, observe_codes(network, images)),
        program=program,
        memory_bits=80_000,
        area=AREA,
        accuracy=Accuracy(6, 0.98, 0.99),
        images=6,
        points=sweep(network, arrays),
        results=parse_accuracy(RESULTS),
    )


def plain_facts() -> Facts:
    """Return what is known of the small network alone."""
    network = small_network()
    return Facts("plain", network, gather_size(network, 4000), gather_layers(network))
