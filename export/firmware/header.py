"""``network.h``: sizes, and what lies where, for people and for the program."""

from nupes.export.firmware.memory import MemoryMap, describe, held, size_of
from nupes.export.firmware.text import comment
from nupes.model.network import IntegerNetwork

__all__ = ["header_text"]


def weight_lines(network: IntegerNetwork, places: MemoryMap) -> str:
    """Return a line for each layer that has weights."""
    rows = []
    for name, item in describe(network).items():
        if item.codes is not None and item.codebook is not None:
            bits, count = item.codebook.bits, item.codes.size
            rows.append(
                f" *   0x{places.weights[name]:06x}  {-(-count * bits // 8):8d} bytes  "
                f"{count:8d} codes of {bits} bits  {comment(name)}  {item.codes.shape}"
            )
    return "\n".join(rows)


def mask_lines(network: IntegerNetwork) -> str:
    """Return what the host must know of inputs that mask scores."""
    names = dict.fromkeys(mask.port.tensor for mask in network.input_masks)
    return "".join(
        f" * {comment(name)} is a mask of attention: it must leave every query a key, such as a\n"
        " * length of at least 1; nothing here checks it.\n *\n"
        for name in names
    )


def header_text(network: IntegerNetwork, places: MemoryMap) -> str:
    """Return ``network.h``."""
    maps = "\n".join(
        f" *   0x{places.bases[name]:06x}  {size_of(tensor):8d} bytes"
        f"  {comment(name)}  {tensor.shape}"
        for name, tensor in held(network).items()
    )
    outputs = [network.tensors[output.tensor] for output in network.outputs]
    scales = "\n".join(
        f" *   {comment(tensor.name)}  {tensor.shape}: y * {float(tensor.scale)!r}"
        for tensor in outputs
    )
    return f"""/* An integer network for the nupes runtime; written by nupes, not by hand.
 *
 *   cc -std=c99 -O2 main.c nupes.c network.c -o network
 *   ./network weights.hex < codes.bin
 *
 * Weight image (weights.hex, Intel HEX): the codes of each layer in the order (output channel,
 * input channel of the group, row, column), one string of bits, each code and each byte from its
 * least significant bit; a layer begins at a whole byte.
 *
{weight_lines(network, places)}
 *
 * Activation memory: maps (height, width, channels), one byte a code; maps that are never needed
 * at the same time share bytes. The input is written there before each run.
 *
{maps}
 *
{mask_lines(network)} * Results, one output after another, and what they are in real numbers:
 *
{scales}
 */
#ifndef NETWORK_H
#define NETWORK_H

#include "nupes.h"

#define NETWORK_INPUT_BYTES {sum(size_of(item.tensor) for item in network.inputs)}
#define NETWORK_INPUT_BASE {places.bases[network.inputs[0].tensor.name]} /* of the first input */
#define NETWORK_RESULTS {sum(size_of(tensor) // 2 for tensor in outputs)}
#define NETWORK_WEIGHT_BYTES {len(places.image)}
#define NETWORK_MEMORY_BYTES {places.activations}

extern const nupes_network network;

#endif
"""
