"""The specifications against the model, and the two algebras against one another."""

import numpy as np
import pytest
from bitwuzla import Bitwuzla, Kind, Option, Options, Result, TermManager
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.model.arithmetic import requantize, residual_term
from nupes.model.token_stage import scale_tokens
from proofs.blocks.cells import cell, cell_configs, magnitudes
from proofs.blocks.fifos import queue
from proofs.blocks.lanes import token_stage
from proofs.blocks.requantizer import requantizer, residual
from proofs.harness import Harness, netlists
from proofs.mutants import draw
from proofs.netlist import Netlist
from proofs.terms import Unrolling
from proofs.vectors import Simulation

COUNT = 4096


def built(harness: Harness) -> Netlist:
    """Return the netlist of one harness."""
    return netlists([harness])[harness.name]


def outputs(netlist: Netlist, inputs: dict[str, np.ndarray], cycles: int, name: str) -> np.ndarray:
    """Return an output after some cycles of the same inputs, as signed integers."""
    simulation = Simulation(netlist, COUNT)
    for _ in range(cycles):
        simulation.settle(inputs)
        simulation.tick()
    simulation.settle(inputs)
    width = sum(part.width for part in netlist.outputs[name])
    word = simulation.output(name).astype(object)
    signs = word >> (width - 1)
    return (word - (signs << width)).astype(np.int64)


def integers(rng: np.random.Generator, bits: int, signed: bool = True) -> np.ndarray:
    """Return random integers of all magnitudes, extremes among them."""
    values = draw(rng, bits, COUNT).astype(object)
    return (values - ((values >> (bits - 1)) << bits) if signed else values).astype(np.int64)


def test_requantizer() -> None:
    rng = np.random.default_rng(0)
    netlist = built(requantizer(ArrayConfig(2, 2), "requantizer"))
    total, bias, term = integers(rng, 32), integers(rng, 48), integers(rng, 25)
    mult, shift = integers(rng, 16, False), rng.integers(1, 32, COUNT)
    scale = mult.astype(object) | (bias.astype(object) & (1 << 48) - 1) << 16
    inputs = {
        "total": total & (1 << 32) - 1,
        "scale": scale.astype(np.uint64),
        "shift": shift,
        "term": term & (1 << 25) - 1,
    }
    spec = outputs(netlist, inputs, 5, "spec")
    assert np.array_equal(spec, requantize(total, mult, bias, shift, term))


def test_residual_term() -> None:
    rng = np.random.default_rng(1)
    harness = residual(ArrayConfig(2, 2), "residual")
    netlist = built(harness)
    layout = harness.inputs["parameters"].shape()
    mult, shift = integers(rng, 16, False), rng.integers(1, 32, COUNT)
    joined, offset = rng.integers(0, 200, COUNT), rng.integers(-256, 0, COUNT)
    fields = {"residual_mult": mult, "residual_shift": shift, "linear": 1}
    fields["residual_offset"] = offset & (1 << layout["residual_offset"].width) - 1
    parameters = sum(
        np.asarray(value).astype(object) << layout[name].offset for name, value in fields.items()
    )
    inputs = {"joined": joined, "parameters": parameters}
    spec = outputs(netlist, inputs, 5, "spec")
    assert np.array_equal(spec, residual_term(joined + offset, mult, shift))


def test_token_stage() -> None:
    rng = np.random.default_rng(2)
    netlist = built(token_stage("token_stage"))
    value, mantissa = integers(rng, 31), np.maximum(integers(rng, 16, False), 1)
    shift = rng.integers(1, 32, COUNT)
    factor = (mantissa.astype(object) << 32) | (shift.astype(object) << 48)
    inputs = {"value": value & (1 << 32) - 1, "factor": factor.astype(np.uint64)}
    spec = outputs(netlist, inputs, 4, "spec")
    assert np.array_equal(spec, scale_tokens(value, mantissa, shift))


@pytest.mark.parametrize("name", ["square 4x5", "product", "uniform 4x5"])
def test_products_of_a_cell(name: str) -> None:
    """``arch.cells``'s products, by the definition of each kind."""
    config = dict(cell_configs())[name]
    kind, table = config.cell, magnitudes(config.cell)
    for u, row in enumerate(table):
        for v, value in enumerate(row):
            if name == "product":
                inside = u < len(kind.weight_magnitudes) and v < len(kind.activation_magnitudes)
                pair = (
                    (kind.weight_magnitudes[u], kind.activation_magnitudes[v]) if inside else (0, 0)
                )
                assert value == pair[0] * pair[1]
            else:
                assert value == (u * v) ** (2 if kind.mac == "square" else 1)


HARNESSES = {
    "queue": lambda: queue(3, 4, "queue"),
    "requantizer": lambda: requantizer(ArrayConfig(2, 2), "requantizer"),
    "cell": lambda: cell(dict(cell_configs())["square 3x4"], "cell"),
}
NETLISTS: dict[str, Netlist] = {}


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(sorted(HARNESSES)), st.integers(0, 2**32 - 1))
def test_terms_and_vectors_agree(name: str, seed: int) -> None:
    """Every output and every next state, for random inputs and states."""
    if name not in NETLISTS:
        NETLISTS[name] = built(HARNESSES[name]())
    netlist, rng = NETLISTS[name], np.random.default_rng(seed)
    simulation, manager, options = Simulation(netlist, 1), TermManager(), Options()
    options.set(Option.PRODUCE_MODELS, True)
    solver, unrolling = Bitwuzla(manager, options), Unrolling(netlist, manager)

    def fix(term, word: int) -> None:
        simulation.words[word] = draw(rng, netlist.widths[word], 1)
        constant = unrolling.terms.const(int(simulation.words[word][0]), netlist.widths[word])
        solver.assert_formula(manager.mk_term(Kind.EQUAL, [term, constant]))

    for word, term in unrolling.state.words.items():
        fix(term, word)
    for index, memory in enumerate(netlist.memories):
        if memory.writes:
            for address in range(memory.size):
                at = unrolling.terms.const(address, memory.address_bits)
                entry = manager.mk_term(Kind.ARRAY_SELECT, [unrolling.state.memories[index], at])
                zero = unrolling.terms.const(0, memory.width)
                solver.assert_formula(manager.mk_term(Kind.EQUAL, [entry, zero]))
    unrolling.advance()
    inputs = {}
    for port, word in netlist.inputs.items():
        fix(unrolling.inputs[0][port], word)
        inputs[port] = simulation.words[word]
    assert solver.check_sat() == Result.SAT
    simulation.settle(inputs)
    for port, vector in netlist.outputs.items():
        assert int(solver.get_value(unrolling.value(0, vector)).value(10)) == simulation.output(
            port
        )
    simulation.tick()
    for word, term in unrolling.state.words.items():
        assert int(solver.get_value(term).value(10)) == int(simulation.words[word][0])
