"""A program's tables as C and as NumPy arrays."""

import io

import numpy as np

from nupes.arch.bus import result_bytes, word_bytes
from nupes.arch.registers import digest_of
from nupes.compiler.program import Program
from nupes.export.driver.tables import DriverTables
from nupes.export.firmware.text import comment

__all__ = ["network_archive", "network_header", "network_source"]

LINE = 12
"""Numbers in a line of C."""


def network_header(program: Program, tables: DriverTables, image: int, data_bits: int) -> str:
    """Return ``network.h``: sizes, and the declarations of the tables; ``image``: bytes of
    program.bin."""
    array, network = program.array, program.network
    sizes = {
        "DIGEST": (f"{digest_of(array):#x}u", "of the array: register CONFIGURATION"),
        "DATA_BITS": (data_bits, "bits of a beat"),
        "WORDS": (len(program.image), "port words of the program"),
        "WORD_BYTES": (word_bytes(array.port_bits), "bytes of a port word in memory"),
        "IMAGE_BYTES": (image, "bytes of program.bin"),
        "CODE_BITS": (array.code_bits, "bits of a code in a word of the input"),
        "LANES": (array.lanes, "codes in a word of the input"),
        "HOLES": (len(tables.holes), "words that the input fills"),
        "CODES": (tables.codes, "codes of all inputs, a byte each"),
        "RESULTS": (tables.results, "results of a run"),
        "RESULT_BYTES": (tables.results * result_bytes(array.cols), "bytes that they take"),
        "VALUES": (len(tables.places), "values of all outputs"),
        "ROWS": (len(tables.digits), "tables of digits"),
    }
    inputs = "\n".join(
        f" *   {comment(item.tensor.name)}  {item.tensor.shape}" for item in network.inputs
    )
    outputs = "\n".join(
        f" *   {comment(item.tensor)}  {item.shape}: y * "
        f"{float(network.tensors[item.tensor].scale)!r}"
        for item in network.outputs
    )
    defines = "\n".join(
        f"#define NETWORK_{name} {value} /* {doc} */" for name, (value, doc) in sizes.items()
    )
    return f"""/* A program for nupes_axi with a {array} array; written by nupes, not by hand.
 *
 * Codes of each input (height, width, channel), one input after another:
 *
{inputs}
 *
 * Values of each output, one output after another, and what they are in real numbers:
 *
{outputs}
 */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

{defines}

#ifdef __cplusplus
extern "C" {{
#endif

/* Which words of the program the input fills, what each of their codes is, the digits of codes, and
 * which 16-bit numbers of the results are the values of the outputs. */
extern const uint32_t network_holes[NETWORK_HOLES];
extern const uint32_t network_sources[NETWORK_HOLES * NETWORK_LANES];
extern const uint8_t network_digits[NETWORK_ROWS][256];
extern const uint32_t network_places[NETWORK_VALUES];

#ifdef __cplusplus
}}
#endif

#endif
"""


def numbers(values: np.ndarray) -> str:
    """Return numbers as lines of C."""
    flat = [str(value) + "u" for value in values.reshape(-1).tolist()]
    lines = (", ".join(flat[i : i + LINE]) for i in range(0, len(flat), LINE))
    return ",\n    ".join(lines)


def network_source(tables: DriverTables) -> str:
    """Return ``network.c``."""
    rows = ",\n".join(f"    {{{numbers(row)}}}" for row in tables.digits)
    return f"""#include "network.h"

const uint32_t network_holes[NETWORK_HOLES] = {{
    {numbers(tables.holes)}
}};

const uint32_t network_sources[NETWORK_HOLES * NETWORK_LANES] = {{
    {numbers(tables.sources)}
}};

const uint8_t network_digits[NETWORK_ROWS][256] = {{
{rows}
}};

const uint32_t network_places[NETWORK_VALUES] = {{
    {numbers(tables.places)}
}};
"""


def network_archive(program: Program, tables: DriverTables) -> bytes:
    """Return ``network.npz``, for the Python driver."""
    buffer, array = io.BytesIO(), program.array
    np.savez_compressed(
        buffer,
        holes=tables.holes,
        sources=tables.sources,
        digits=tables.digits,
        places=tables.places,
        words=len(program.image),
        word_bytes=word_bytes(array.port_bits),
        code_bits=array.code_bits,
        cols=array.cols,
        results=tables.results,
        digest=digest_of(array),
        codes=tables.codes,
    )
    return buffer.getvalue()
