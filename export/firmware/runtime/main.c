/* Runs the network on a host.
 *
 * Usage: ./network [weights.hex] < codes > results
 *
 * Input: one byte a code, row, column, channel, image after image; the inputs of a network that has
 * several one after another for each image. Output: one line an image, the int16 results in
 * decimal, channel, row, column, output after output. On a target the weight image is in flash, and
 * nupes_run() gets its address.
 */
#include <stdio.h>

#include "network.h"

static uint8_t weights[NETWORK_WEIGHT_BYTES + 1]; /* + 1: C has no arrays of length 0 */
static uint8_t memory[NETWORK_MEMORY_BYTES];
static int16_t y[NETWORK_RESULTS];

/* Read an Intel HEX file; return 1 if every record is right and every byte is there. */
static int read_hex(FILE *file)
{
    uint32_t upper = 0, filled = 0;
    unsigned length, address, kind, byte;
    while (fscanf(file, " :%2x%4x%2x", &length, &address, &kind) == 3) {
        unsigned sum = length + (address >> 8) + address + kind;
        uint32_t data = 0;
        for (unsigned i = 0; i <= length; i++) { /* the last one is the checksum */
            if (fscanf(file, "%2x", &byte) != 1)
                return 0;
            sum += byte;
            if (i == length)
                break;
            data = data << 8 | byte;
            if (kind == 0) {
                uint32_t at = upper + address + i;
                if (at + 1 > NETWORK_WEIGHT_BYTES)
                    return 0;
                weights[at] = (uint8_t)byte;
                filled++;
            }
        }
        if (sum & 0xff)
            return 0;
        if (kind == 4)
            upper = data << 16;
        if (kind == 1)
            return filled == NETWORK_WEIGHT_BYTES;
    }
    return 0;
}

/* Read the codes of every input; return how many there were. */
static size_t read_inputs(void)
{
    size_t got = 0;
    for (int32_t i = 0; i < network.input_count; i++) {
        const nupes_tensor *input = &network.tensors[i];
        size_t size = (size_t)(input->height * input->width * input->channels);
        got += fread(memory + input->base, 1, size, stdin);
    }
    return got;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "weights.hex";
    FILE *file = fopen(path, "r");
    if (!file || !read_hex(file)) {
        fprintf(stderr, "%s must be the complete weight image of this network\n", path);
        return 2;
    }
    fclose(file);
    for (;;) {
        size_t got = read_inputs();
        if (got == 0)
            return 0;
        if (got != NETWORK_INPUT_BYTES) {
            fprintf(stderr, "input must be whole images of %ld codes\n",
                    (long)NETWORK_INPUT_BYTES);
            return 2;
        }
        nupes_run(&network, weights, memory, y);
        for (int32_t i = 0; i < NETWORK_RESULTS; i++)
            printf(i ? " %d" : "%d", y[i]);
        printf("\n");
    }
}
