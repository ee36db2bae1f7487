"""The processing element."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.rtl.cell import Cell
from tests.rtl.strategies import signed_integers
from tests.rtl.testbench import simulate

OUTPUTS = ("level_out", "swap_out", "load_out", "psum_out")


def expected(cycles: list[dict[str, int]]) -> dict[str, list[int]]:
    """Return the outputs of an ideal cell, one cycle after the inputs."""
    shadow = active = 0
    outputs: dict[str, list[int]] = {name: [0] for name in OUTPUTS}
    for row in cycles:
        active = shadow if row["swap"] else active
        outputs["psum_out"].append(row["psum"] + active * row["level"])
        shadow = row["weight"] if row["load"] else shadow
        for name in ("level", "swap", "load"):
            outputs[f"{name}_out"].append(row[name])
    return outputs


def test_shadow_weight_waits_for_swap() -> None:
    idle = {"level": 3, "swap": 0, "load": 0, "weight": 0, "psum": 100}
    cycles = [idle | {"load": 1, "weight": 5}, idle, idle | {"swap": 1}, idle, idle]
    seen = simulate(Cell(8, 9, 20), cycles, ("psum_out",))
    assert seen["psum_out"] == [0, 100, 100, 115, 115][: len(seen["psum_out"])]


def test_swap_takes_the_weight_before_a_load_in_the_same_cycle() -> None:
    idle = {"level": 1, "swap": 0, "load": 0, "weight": 0, "psum": 0}
    cycles = [
        idle | {"load": 1, "weight": 5},
        idle | {"swap": 1, "load": 1, "weight": 7},
        idle | {"swap": 1},
        idle,
    ]
    assert simulate(Cell(8, 9, 20), cycles, ("psum_out",))["psum_out"] == [0, 0, 5, 7]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_sequence(data: st.DataObject) -> None:
    weight_bits, level_bits = data.draw(st.integers(2, 8)), data.draw(st.integers(2, 9))
    psum_bits = weight_bits + level_bits + 6
    row = st.fixed_dictionaries(
        {
            "level": signed_integers(level_bits),
            "swap": st.integers(0, 1),
            "load": st.integers(0, 1),
            "weight": signed_integers(weight_bits),
            # What rows above this one can have added.
            "psum": signed_integers(psum_bits - 1),
        }
    )
    cycles = data.draw(st.lists(row, min_size=1, max_size=40))
    seen = simulate(Cell(weight_bits, level_bits, psum_bits), cycles, OUTPUTS, idle=1)
    assert seen == expected(cycles)
