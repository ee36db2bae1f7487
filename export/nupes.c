#include "nupes.h"

/* Arithmetic shift: C99 leaves >> of a negative number to the compiler. */
static int64_t shift_right(int64_t value, int32_t shift)
{
    return value >= 0 ? value >> shift : ~(~value >> shift);
}

static int16_t saturate(int64_t value)
{
    return (int16_t)(value < INT16_MIN ? INT16_MIN : value > INT16_MAX ? INT16_MAX : value);
}

/* Code number `index` of a string of bits, least significant bit first. */
static uint32_t packed_code(const uint8_t *image, uint32_t index, uint32_t bits)
{
    const uint8_t *byte = image + index / 8 * bits + index % 8 * bits / 8;
    uint32_t first = index % 8 * bits % 8;
    uint32_t value = (uint32_t)byte[0] >> first;
    if (first + bits > 8)
        value |= (uint32_t)byte[1] << (8 - first);
    return value & ((UINT32_C(1) << bits) - 1);
}

/* Codes of all channels under tap (ky, kx) of output pixel (row, column); 0 in the padding. */
static const uint8_t *pixel(const nupes_layer *layer, const nupes_tensor *source,
                            const uint8_t *memory, int32_t row, int32_t column, int32_t ky, int32_t kx)
{
    int32_t y = row * layer->stride[0] + ky * layer->dilation[0] - layer->before[0];
    int32_t x = column * layer->stride[1] + kx * layer->dilation[1] - layer->before[1];
    if (y < 0 || y >= source->height || x < 0 || x >= source->width)
        return 0;
    return memory + source->base + (uint32_t)((y * source->width + x) * source->channels);
}

/* What one tap adds to the accumulator of output channel n. No sum of these leaves 32 bits. */
static int32_t tap_sum(const nupes_layer *layer, const nupes_tensor *source, const uint8_t *weights,
                       const uint8_t *codes, int32_t n, int32_t ky, int32_t kx)
{
    int32_t per_group = source->channels / layer->groups;
    int32_t first = n / (layer->channels / layer->groups) * per_group;
    int32_t sum = 0;
    if (layer->kind == NUPES_AVERAGE)
        return source->levels[codes[n]];
    if (layer->kind == NUPES_SELECT) {
        int32_t channel = n - layer->offset;
        return channel >= 0 && channel < source->channels ? source->levels[codes[channel]] : 0;
    }
    for (int32_t c = 0; c < per_group; c++) {
        int32_t index = ((n * per_group + c) * layer->kernel[0] + ky) * layer->kernel[1] + kx;
        uint32_t code = packed_code(weights + layer->weights, (uint32_t)index, layer->bits);
        sum += (int32_t)layer->levels[code] * source->levels[codes[first + c]];
    }
    return sum;
}

static int32_t accumulate(const nupes_layer *layer, const nupes_tensor *source,
                          const uint8_t *weights, const uint8_t *memory, int32_t row,
                          int32_t column, int32_t n)
{
    int32_t acc = 0;
    for (int32_t ky = 0; ky < layer->kernel[0]; ky++)
        for (int32_t kx = 0; kx < layer->kernel[1]; kx++) {
            const uint8_t *codes = pixel(layer, source, memory, row, column, ky, kx);
            if (codes)
                acc += tap_sum(layer, source, weights, codes, n, ky, kx);
        }
    return acc;
}

static uint8_t largest_code(const nupes_layer *layer, const nupes_tensor *source,
                            const uint8_t *memory, int32_t row, int32_t column, int32_t n)
{
    uint8_t largest = 0;
    for (int32_t ky = 0; ky < layer->kernel[0]; ky++)
        for (int32_t kx = 0; kx < layer->kernel[1]; kx++) {
            const uint8_t *codes = pixel(layer, source, memory, row, column, ky, kx);
            if (codes && codes[n] > largest)
                largest = codes[n];
        }
    return largest;
}

/* The activation function and the quantizer in one: a binary search. */
static uint8_t encode(const nupes_layer *layer, int16_t y)
{
    int32_t low = 0, high = layer->steps;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        if (y >= layer->thresholds[middle])
            low = middle + 1;
        else
            high = middle;
    }
    return layer->codes[low];
}

void nupes_run(const nupes_network *network, const uint8_t *weights, uint8_t *memory, int16_t *y)
{
    for (int32_t i = 0; i < network->layer_count; i++) {
        const nupes_layer *layer = &network->layers[i];
        const nupes_tensor *source = &network->tensors[layer->input];
        int32_t pixels = layer->height * layer->width;
        for (int32_t at = 0; at < pixels * layer->channels; at++) {
            int32_t n = at % layer->channels, place = at / layer->channels;
            int32_t row = place / layer->width, column = place % layer->width;
            uint8_t *out = 0;
            if (layer->output >= 0)
                out = memory + network->tensors[layer->output].base + (uint32_t)at;
            if (layer->kind == NUPES_MAX) {
                *out = largest_code(layer, source, memory, row, column, n);
                continue;
            }
            int64_t value = accumulate(layer, source, weights, memory, row, column, n);
            value = shift_right(value * layer->mult[n] + layer->bias[n], layer->shift[n]);
            if (layer->skip >= 0) {
                const nupes_tensor *skip = &network->tensors[layer->skip];
                int64_t level = skip->levels[memory[skip->base + (uint32_t)at]];
                int64_t half = INT64_C(1) << (layer->skip_shift - 1);
                value += shift_right(level * layer->skip_mult + half, layer->skip_shift);
            }
            if (out)
                *out = encode(layer, saturate(value));
            else
                y[n * pixels + place] = saturate(value);
        }
    }
}
