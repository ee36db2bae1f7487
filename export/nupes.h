/* nupes runtime: runs an integer network from its packed weight codes.
 *
 * C99, integers only, no allocation, no globals. Feature maps are bytes, one code each, height x width
 * x channels with channels innermost; the value of a code is a table look-up (`levels`). The
 * arithmetic is that of docs/numerics.md of nupes, to the last bit.
 */
#ifndef NUPES_H
#define NUPES_H

#include <stdint.h>

/* A stored feature map: `height * width * channels` bytes at `base` of the activation memory. */
typedef struct {
    int32_t height, width, channels;
    uint32_t base;
    const int16_t *levels; /* value of each code, -256..255 */
} nupes_tensor;

typedef enum {
    NUPES_CONV,    /* sum of weight level * input level over taps and the channels of the group */
    NUPES_AVERAGE, /* sum of the levels in the window; the divisor is part of mult and shift */
    NUPES_SELECT,  /* level of channel n - offset, 0 where there is none */
    NUPES_MAX      /* largest code in the window; no requantization */
} nupes_kind;

/* One layer. Pairs are (vertical, horizontal); arrays have one entry for each output channel. */
typedef struct {
    nupes_kind kind;
    int32_t input, output, skip;     /* tensors by number; output -1: y, skip -1: none */
    int32_t height, width, channels; /* of the result */
    int32_t kernel[2], stride[2], before[2], dilation[2]; /* before: padding on top and left */
    int32_t groups, offset;
    uint32_t weights, bits;      /* first byte in the weight image; bits of a code */
    const int8_t *levels;        /* value of each weight code */
    const uint16_t *mult;        /* y = sat16(((acc * mult + bias) >> shift) + skip term) */
    const int64_t *bias;
    const uint8_t *shift;
    int32_t skip_mult, skip_shift; /* skip term = (level * mult + half) >> shift */
    int32_t steps;               /* code = codes[number of thresholds <= y] */
    const int16_t *thresholds;
    const uint8_t *codes;
} nupes_layer;

typedef struct {
    const nupes_tensor *tensors; /* tensor 0 is the input */
    const nupes_layer *layers;   /* in execution order */
    int32_t layer_count;
} nupes_network;

/* Run a network on one image.
 *
 * weights  the weight image (weights.hex): packed codes, read only
 * memory   activation memory; the input codes are at `tensors[0].base`, everything is overwritten
 * y        results of the last layer: channel, row, column
 */
void nupes_run(const nupes_network *network, const uint8_t *weights, uint8_t *memory, int16_t *y);

#endif
