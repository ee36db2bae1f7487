"""The processing elements: every pair of operands of every kind, and any sequence."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.rtl.datapath.kinds import cell_of
from tests.rtl.strategies import configs, signed_integers
from tests.rtl.testbench import signed, simulate

OUTPUTS = ("level_out", "swap_out", "load_out", "psum_out")
IDLE = {"level": 0, "swap": 0, "load": 0, "weight": 0, "psum": 0}
DECODE = ArrayConfig(2, 2)
MAGNITUDES = {"weight_magnitudes": (3, 10, 23, 41), "activation_magnitudes": (1, 5, 14, 41, 255)}

Product = Callable[[int, int], int]


def reference(config: ArrayConfig, table: np.ndarray) -> Product:
    """Return the product of two operands' bits, by the definition of the cell."""
    kind = config.cell
    tops = kind.weight_bits - 1, kind.activation_bits - 1

    def product(weight: int, level: int) -> int:
        if kind.mac == "decode":
            return signed(weight, tops[0] + 1) * signed(level, tops[1] + 1)
        u, v = weight & kind.weight_limit, level & kind.activation_limit
        value = u * v
        if kind.mac == "square" and not level >> (tops[1] + 1) & 1:
            value = u * u * v * v
        if kind.mac in ("pair", "product"):
            value = int(table[u, v])
        return -value if (weight >> tops[0] & 1) != (level >> tops[1] & 1) else value

    return product


def tables(config: ArrayConfig, seed: int = 0) -> np.ndarray:
    """Return the products of magnitudes: random ones, or those of the design."""
    kind = config.cell
    shape = kind.weight_limit + 1, kind.activation_limit + 1
    if kind.mac != "product":
        drawn = np.random.default_rng(seed).integers(0, config.largest_product + 1, shape)
        drawn[0], drawn[:, 0], drawn[-1, -1] = 0, 0, config.largest_product
        return drawn
    table = np.zeros(shape, np.int64)
    products = np.multiply.outer(kind.weight_magnitudes, kind.activation_magnitudes)
    table[: products.shape[0], : products.shape[1]] = products
    return table


def writes(config: ArrayConfig, table: np.ndarray) -> list[dict[str, int]]:
    """Return the cycles that write a pair cell's table."""
    if config.mac != "pair":
        return []
    names = ("table.valid", "table.address", "table.data")
    entries = enumerate(table.reshape(-1).tolist())
    cycles = [dict(zip(names, (1, at, entry), strict=True)) | IDLE for at, entry in entries]
    return [*cycles, IDLE | {"table.valid": 0}]


@pytest.mark.parametrize(
    "config",
    [
        *(
            ArrayConfig(2, 2, code_bits=bits, mac=mac)
            for bits in (2, 3, 4)
            for mac in ("uniform", "square", "pair")
        ),
        ArrayConfig(2, 2, code_bits=3, mac="square", weight_operand_bits=4),
        ArrayConfig(2, 2, mac="pair", activation_operand_bits=4),
        ArrayConfig(2, 2, mac="product", **MAGNITUDES),
        ArrayConfig(2, 2, weight_level_bits=4, activation_level_bits=5),
    ],
    ids=lambda c: f"{c.mac}-{c.cell.weight_bits}x{c.cell.activation_bits}",
)
def test_every_pair_of_operands(config: ArrayConfig) -> None:
    table = tables(config)
    product, setup = reference(config, table), writes(config, table)
    weights = range(1 << config.cell.weight_bits)
    levels = range(1 << config.level_entry_bits)
    if config.mac == "product":
        weights = [w for w in weights if w & config.cell.weight_limit < len(table)]
    cycles, expected = [*setup], [0] * (len(setup) + 1)
    for weight in weights:
        cycles.append(IDLE | {"load": 1, "weight": signed(weight, config.cell.weight_bits)})
        cycles.append(IDLE | {"swap": 1})
        expected += [0, 0]
        for level in levels:
            start = -2 if level % 2 else 3
            level_bits = signed(level, config.level_entry_bits)
            cycles.append(IDLE | {"level": level_bits, "psum": start})
            expected.append(start + product(weight, level))
    seen = simulate(cell_of(config)(config), cycles, ("psum_out",), idle=1)["psum_out"]
    skip = 2 + len(levels)
    for index in range(len(weights)):
        first = len(setup) + index * skip + 3
        assert seen[first : first + len(levels)] == expected[first : first + len(levels)]


def test_shadow_weight_waits_for_swap() -> None:
    idle = IDLE | {"level": 3, "psum": 100}
    cycles = [idle | {"load": 1, "weight": 5}, idle, idle | {"swap": 1}, idle, idle]
    seen = simulate(cell_of(DECODE)(DECODE), cycles, ("psum_out",))
    assert seen["psum_out"] == [0, 100, 100, 100, 115]


def test_swap_takes_the_weight_before_a_load_in_the_same_cycle() -> None:
    idle = IDLE | {"level": 1}
    cycles = [
        idle | {"load": 1, "weight": 5},
        idle | {"swap": 1, "load": 1, "weight": 7},
        idle | {"swap": 1},
        idle,
        idle,
    ]
    assert simulate(cell_of(DECODE)(DECODE), cycles, ("psum_out",))["psum_out"] == [0, 0, 0, 5, 7]


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_any_sequence(data: st.DataObject, seed: int) -> None:
    config = data.draw(configs())
    table = tables(config, seed)
    product, setup = reference(config, table), writes(config, table)
    row = st.fixed_dictionaries(
        {
            "level": signed_integers(config.level_entry_bits),
            "swap": st.integers(0, 1),
            "load": st.integers(0, 1),
            "weight": signed_integers(config.cell.weight_bits),
            # What rows above this one can have added.
            "psum": signed_integers(config.psum_bits - 1),
            **({"operand": signed_integers(config.level_entry_bits)} if config.chains else {}),
        }
    )
    cycles = data.draw(st.lists(row, min_size=1, max_size=40))
    shadow = active = 0
    outputs: dict[str, list[int]] = {name: [0] for name in OUTPUTS}
    operand = "operand" if config.chains else "level"
    for row in [IDLE | {operand: 0}] * len(setup) + cycles:
        total = row["psum"] + product(active, row[operand])
        outputs["psum_out"].append(signed(total, config.psum_bits))
        active = shadow if row["swap"] else active
        shadow = row["weight"] if row["load"] else shadow
        for name in ("level", "swap", "load"):
            outputs[f"{name}_out"].append(row[name])
    seen = simulate(cell_of(config)(config), [*setup, *cycles], OUTPUTS, idle=1)
    assert seen == outputs
