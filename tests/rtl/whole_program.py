"""Random programs with the results that the interpreter gives."""

import random

from nupes.arch.config import ArrayConfig
from tests.rtl.interpreter import Machine
from tests.rtl.program import Program
from tests.rtl.random_program import add_layer, dump, fill

__all__ = ["program_and_results"]


def program_and_results(
    config: ArrayConfig, seed: int, layers: int
) -> tuple[list[int], list[list[int]]]:
    """Return the words of a random program of so many layers, which ends with a dump of the
    activation memory, and its results."""
    program, chance = Program(config), random.Random(seed)
    fill(program, chance)
    for slot in range(layers):
        add_layer(program, chance, slot)
    dump(program)
    machine, words = Machine(config), program.end()
    machine.run(words)
    return words, machine.results
