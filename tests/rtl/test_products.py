"""Elementwise products of two stored maps: exact, for any levels, broadcast, kind of cell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.cells import Operands, operands, product_table
from nupes.arch.config import ArrayConfig
from nupes.arch.isa import LAG_FREE, Destination, Opcode, Status, plane_cycles
from nupes.model.arithmetic import requantize
from nupes.model.codebook import Codebook, table_codebook
from nupes.model.planes import Planes, split_planes
from nupes.rtl.interface import ScaleEntry, ShiftEntry
from tests.rtl.program import Outcome, Program, Stalls, run
from tests.rtl.random_program import small
from tests.rtl.strategies import codebooks

MAGNITUDES = (1, 5, 25, 125)
SIZES = {"products": True, "act_depth": 128, "tensor_bits": 8}
CONFIGS = [
    small(code_bits=2, **SIZES),
    small(4, 2, code_bits=4, **SIZES),
    small(code_bits=8, **SIZES),
    small(mac="uniform", code_bits=2, **SIZES),
    small(mac="square", code_bits=3, **SIZES),
    small(mac="pair", code_bits=3, **SIZES),
    small(mac="product", weight_magnitudes=(1, 3), activation_magnitudes=MAGNITUDES, **SIZES),
]
FIXED = table_codebook([0, *MAGNITUDES], 3)
"""A codebook of the product cell."""


def store(program: Program, codes: np.ndarray, planes: Planes, base: int) -> int:
    """Append LOADs of a map of codes (h, w, c), a word a pixel; return the plane step, odd."""
    digits = planes.digits[codes.reshape(-1, codes.shape[-1])]
    step = len(digits) | 1
    for plane in range(planes.count):
        words = [program.codes(pixel) for pixel in digits[:, :, plane]]
        program.load(Destination.ACTIVATION, base + plane * step, words)
    return step


def load_operands(program: Program, weights: Operands, activations: Operands) -> None:
    """Append LOADs of the operands of an identity tile, pass ``i`` in slot ``i``; of joined digits
    the first entry, their offset, is one of as many as a table has."""
    config, cell = program.config, program.config.cell
    for memory, side, bits, linear in (
        (Destination.WEIGHT_TABLE, weights, cell.weight_bits, 0),
        (Destination.ACTIVATION_TABLE, activations, cell.activation_bits, config.linear_bit),
    ):
        entries = side.tables[:, : 1 << config.code_bits].astype(int)
        if config.mac != "decode":
            entries = np.abs(entries) | (entries < 0) << (bits - 1)
            entries = entries | (side.linear * linear) << bits
        program.load(memory, 0, entries.reshape(-1).tolist())
    if config.mac == "pair":
        table = product_table(cell, weights, activations)
        program.load(Destination.PRODUCT, 0, table.reshape(-1).tolist())


def multiply(
    config: ArrayConfig,
    factor: tuple[np.ndarray, Codebook],
    whole: tuple[np.ndarray, Codebook],
    scale: tuple[int, int, int],
    stalls: Stalls,
) -> Outcome:
    """Run the product of two maps (h, w, 2) of codes, whose first one may have sizes of 1."""
    program = Program(config)
    (h, w, cols), (small_h, small_w, channels) = whole[0].shape, factor[0].shape
    first, second = (split_planes(book, config.code_bits) for _, book in (factor, whole))
    weights, activations = operands(config.cell, None, first)
    load_operands(program, weights, activations)
    step = store(program, factor[0], first, 0)
    residual_step = store(program, whole[0], second, 64)
    mult, bias, shift = scale
    entry = ScaleEntry().const({"mult": mult, "bias": bias}).as_bits()
    program.load(Destination.SCALE, 0, [entry] * cols)
    wide = second.count > 1
    fields = {"shift": shift, "linear": int(wide), "residual_offset": second.offset}
    program.load(Destination.SHIFT, 0, [ShiftEntry().const(fields).as_bits()] * cols)
    if not wide:
        program.load(Destination.RESIDUAL_TABLE, 0, second.tables[0].tolist())
    program.layer(
        0,
        step_x=int(small_w > 1),
        step_y=small_w * (small_h > 1),
        step_plane=-step,
        stride_x=int(small_w > 1),
        stride_y=int(small_h > 1),
        width=small_w,
        height=small_h,
        out_width=w,
        pace=plane_cycles(second.count),
        residual_step=1,
        residual_row_step=1,
        residual_plane_step=residual_step,
        residual_planes=second.count,
    )
    rows = np.eye(cols, dtype=int) if channels > 1 else np.ones((1, cols), int)
    passes = [(i, j) for j in range(len(activations.tables)) for i in range(len(weights.tables))]
    for number, (i, j) in enumerate(passes):
        joined = any(activations.joined[j : j + 1])
        start = (activations.planes[j] + joined) * step  # the upper digits; the lower ones follow
        program.tile(
            rows.tolist(),
            opcode=Opcode.MULTIPLY,
            first=int(number == 0),
            last=int(number == len(passes) - 1),
            lag=LAG_FREE if number else 0,
            mark=int(number == 0),
            weight_slot=i,
            activation_slot=j,
            joined=int(joined),
            shift=weights.shifts[i] + activations.shifts[j],
            count=h * w,
            address=start,
            row_address=start,
            residual_address=64,
        )
    (outcome,) = run(config, [program.end()], stalls)
    return outcome


@st.composite
def maps(draw: st.DrawFn, config: ArrayConfig) -> list[tuple[np.ndarray, Codebook]]:
    """Return two maps of codes and their codebooks; the first one may serve the second's."""
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 3)), config.cols
    factor = tuple(draw(st.sampled_from([1, size])) for size in shape)
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    found = []
    for sizes in (factor, shape):
        fixed = config.mac == "product" and not found
        bits = draw(st.sampled_from([config.code_bits, 8]))
        book = FIXED if fixed else draw(codebooks(config.activation_level_bits, bits))
        found.append((generator.integers(0, len(book), sizes), book))
    return found


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.mac}{config.code_bits}")
@settings(max_examples=2)
@given(data=st.data())
def test_products_are_exact(config: ArrayConfig, data: st.DataObject) -> None:
    factor, whole = data.draw(maps(config))
    scale = data.draw(
        st.tuples(st.integers(0, 65535), st.integers(-(2**30), 2**30), st.integers(1, 20))
    )
    stalls = Stalls(response=data.draw(st.sampled_from([0, 0.4])), latency=3)
    outcome = multiply(config, factor, whole, scale, stalls)
    levels = [book.levels.astype(np.int64)[codes] for codes, book in (factor, whole)]
    mult, bias, shift = (np.array(value) for value in scale)
    y = requantize(levels[0] * levels[1], mult, bias, shift)
    assert outcome.status == Status.OK
    assert outcome.results == y.reshape(-1, config.cols).tolist()
