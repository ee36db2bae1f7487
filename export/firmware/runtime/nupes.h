/* nupes runtime: runs an integer network from its packed weight codes.
 *
 * C99, integers only, no allocation, no globals. Feature maps are bytes, one code each, height x width
 * x channels with channels innermost; the value of a code is a table look-up (`levels`). The
 * arithmetic is that of docs/numerics.md of nupes, to the last bit.
 */
#ifndef NUPES_H
#define NUPES_H

#include <stdint.h>

/* A stored feature map: `height * width * channels` values at `base` of the activation memory. */
typedef struct {
    int32_t height, width, channels;
    uint32_t base;
    const int16_t *levels; /* value of each code, -256..255; 0: values of 16 bits, low byte first */
    const uint8_t *codes;  /* of a constant; 0: others write it */
} nupes_tensor;

/* What a layer reads of a tensor: `channels` channels of `rows` rows, from value `first` on. */
typedef struct {
    int32_t tensor, first, channels, rows; /* tensor by number; -1: nothing */
} nupes_port;

typedef enum {
    NUPES_CONV,    /* sum of weight level * input level over taps and the channels of the group */
    NUPES_AVERAGE, /* sum of the levels in the window; the divisor is part of mult and shift */
    NUPES_SELECT,  /* level of channel selected[n], 0 where that is -1 */
    NUPES_PRODUCT, /* level * level of two inputs; a size of 1 of the first serves all of the second */
    NUPES_SUM_OF_PRODUCTS, /* sum over pairs of inputs: channel selected[] of one * level of the other */
    NUPES_MATMUL,  /* sum of level * level: channels of a pixel, rows or columns of the second input */
    NUPES_WEIGHTED_MEAN, /* mean of the second input's rows, weighted by the channels of a pixel */
    NUPES_SUBTRACT_MAX,  /* value minus the largest one of its pixel */
    NUPES_NORMALIZE,     /* channels of a pixel over their root mean square */
    NUPES_MAX,     /* largest code in the window; no requantization */
    NUPES_CONCAT,  /* codes of all inputs, one after another; no requantization */
    NUPES_MOSAIC   /* codes of pieces of the inputs; no requantization */
} nupes_kind;

/* A piece of a mosaic: value i of an axis (vertical, horizontal, channel) is number at + i * at_step
 * of input `source`, and number to + i * to_step of the result. */
typedef struct {
    int32_t source, count[3], to[3], to_step[3], at[3], at_step[3];
} nupes_piece;

/* One layer. Pairs are (vertical, horizontal); arrays have one entry for each output channel. */
typedef struct {
    nupes_kind kind;
    const nupes_port *inputs;        /* as many as the kind has; for NUPES_CONCAT, all channels */
    int32_t output, result;          /* tensor by number, first of the results; -1: none */
    int32_t height, width, channels; /* of the result */
    int32_t kernel[2], stride[2];
    int32_t before[2], dilation[2]; /* before: padding on top and left, negative where it crops */
    int32_t stretch[2];          /* the input's pixels lie so far apart, with zeros between */
    int32_t groups;
    int32_t transposed;          /* NUPES_MATMUL: rows of the second input are the matrix's columns */
    int32_t centered;            /* NUPES_NORMALIZE: the mean is subtracted first */
    int64_t epsilon;             /* NUPES_NORMALIZE: added to n * sum of squares - square of sum */
    int32_t pairs;               /* NUPES_SUM_OF_PRODUCTS: pairs of inputs, a factor and a whole */
    const int32_t *selected;     /* channels by number, for NUPES_SELECT; of each factor, in turn */
    const nupes_piece *pieces;   /* of a mosaic; they make up the whole result */
    uint32_t weights, bits;      /* first byte in the weight image; bits of a code */
    const int8_t *levels;        /* value of each weight code */
    const int32_t *mult;         /* y = sat16(((acc * mult + bias) >> shift) + skip term) */
    const int64_t *bias;
    const uint8_t *shift;
    nupes_port skip;
    int32_t skip_mult, skip_shift; /* skip term = (value * mult + half) >> shift */
    int32_t steps;               /* code = codes[number of thresholds <= y] */
    const int16_t *thresholds;
    const uint8_t *codes;        /* 0: y itself is the result */
} nupes_layer;

typedef struct {
    const nupes_tensor *tensors; /* the inputs are the first ones, then constants */
    const nupes_layer *layers;   /* in execution order */
    int32_t input_count, constant_count, layer_count;
} nupes_network;

/* Run a network on one image.
 *
 * weights  the weight image (weights.hex): packed codes, read only
 * memory   activation memory; the codes of input i are at `tensors[i].base`, everything is overwritten
 * y        results of all outputs, one after another: channel, row, column
 */
void nupes_run(const nupes_network *network, const uint8_t *weights, uint8_t *memory, int16_t *y);

#endif
