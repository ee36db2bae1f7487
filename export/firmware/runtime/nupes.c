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

/* Codes of the channels that a port reads of pixel (y, x). */
static const uint8_t *codes_at(const nupes_tensor *source, const nupes_port *port,
                               const uint8_t *memory, int32_t y, int32_t x)
{
    return memory + source->base +
           (uint32_t)((y * source->width + x) * source->channels + port->first);
}

/* The same under tap (ky, kx) of output pixel (row, column); 0 in the padding or between pixels. */
static const uint8_t *tap(const nupes_layer *layer, const nupes_tensor *source,
                          const uint8_t *memory, int32_t row, int32_t column, int32_t ky, int32_t kx)
{
    int32_t y = row * layer->stride[0] + ky * layer->dilation[0] - layer->before[0];
    int32_t x = column * layer->stride[1] + kx * layer->dilation[1] - layer->before[1];
    if (y < 0 || y % layer->stretch[0] || x < 0 || x % layer->stretch[1])
        return 0;
    y /= layer->stretch[0];
    x /= layer->stretch[1];
    if (y >= layer->inputs->rows || x >= source->width)
        return 0;
    return codes_at(source, layer->inputs, memory, y, x);
}

/* What one tap adds to the accumulator of output channel n. No sum of these leaves 32 bits. */
static int32_t tap_sum(const nupes_layer *layer, const nupes_tensor *source, const uint8_t *weights,
                       const uint8_t *codes, int32_t n, int32_t ky, int32_t kx)
{
    int32_t channels = layer->inputs->channels, sum = 0;
    if (layer->kind == NUPES_AVERAGE)
        return source->levels[codes[n]];
    if (layer->kind == NUPES_SELECT) {
        int32_t channel = layer->selected[n];
        return channel >= 0 ? source->levels[codes[channel]] : 0;
    }
    int32_t per_group = channels / layer->groups;
    int32_t first = n / (layer->channels / layer->groups) * per_group;
    for (int32_t c = 0; c < per_group; c++) {
        int32_t index = ((n * per_group + c) * layer->kernel[0] + ky) * layer->kernel[1] + kx;
        uint32_t code = packed_code(weights + layer->weights, (uint32_t)index, layer->bits);
        sum += (int32_t)layer->levels[code] * source->levels[codes[first + c]];
    }
    return sum;
}

static int32_t window_sum(const nupes_layer *layer, const nupes_tensor *source,
                          const uint8_t *weights, const uint8_t *memory, int32_t row,
                          int32_t column, int32_t n)
{
    int32_t acc = 0;
    for (int32_t ky = 0; ky < layer->kernel[0]; ky++)
        for (int32_t kx = 0; kx < layer->kernel[1]; kx++) {
            const uint8_t *codes = tap(layer, source, memory, row, column, ky, kx);
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
            const uint8_t *codes = tap(layer, source, memory, row, column, ky, kx);
            if (codes && codes[n] > largest)
                largest = codes[n];
        }
    return largest;
}

/* Code of channel n of all inputs side by side. */
static uint8_t joined_code(const nupes_layer *layer, const nupes_tensor *tensors,
                           const uint8_t *memory, int32_t row, int32_t column, int32_t n)
{
    const nupes_port *port = layer->inputs;
    for (; n >= port->channels; port++)
        n -= port->channels;
    return codes_at(&tensors[port->tensor], port, memory, row, column)[n];
}

/* Whether a piece holds a value of the result; where it stands in the input. */
static int holds(const nupes_piece *piece, const int32_t place[3], int32_t origin[3])
{
    for (int axis = 0; axis < 3; axis++) {
        int32_t distance = place[axis] - piece->to[axis], step = piece->to_step[axis];
        if (distance < 0 || distance % step || distance / step >= piece->count[axis])
            return 0;
        origin[axis] = piece->at[axis] + distance / step * piece->at_step[axis];
    }
    return 1;
}

/* Code of the piece that holds channel n of a pixel. */
static uint8_t piece_code(const nupes_layer *layer, const nupes_tensor *tensors,
                          const uint8_t *memory, int32_t row, int32_t column, int32_t n)
{
    const int32_t place[3] = {row, column, n};
    const nupes_piece *piece = layer->pieces;
    int32_t origin[3];
    while (!holds(piece, place, origin))
        piece++;
    const nupes_port *port = &layer->inputs[piece->source];
    return codes_at(&tensors[port->tensor], port, memory, origin[0], origin[1])[origin[2]];
}

/* Level of channel n of one factor; a size of 1 serves every row, column or channel. */
static int32_t factor(const nupes_port *port, const nupes_tensor *tensors, const uint8_t *memory,
                      int32_t row, int32_t column, int32_t n)
{
    const nupes_tensor *source = &tensors[port->tensor];
    int32_t y = port->rows == 1 ? 0 : row, x = source->width == 1 ? 0 : column;
    return source->levels[codes_at(source, port, memory, y, x)[port->channels == 1 ? 0 : n]];
}

/* Sum over pairs of inputs of the level of a channel of the first times that of the second. */
static int32_t sum_of_products(const nupes_layer *layer, const nupes_tensor *tensors,
                               const uint8_t *memory, int32_t row, int32_t column, int32_t n)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < layer->pairs; i++) {
        const nupes_port *pair = layer->inputs + 2 * i;
        int32_t taken = layer->selected[i * layer->channels + n];
        sum += factor(pair, tensors, memory, row, column, taken) *
               factor(pair + 1, tensors, memory, row, column, n);
    }
    return sum;
}

/* What a port reads in channel n of a pixel: the level of a code, or 16 bits. */
static int32_t value_at(const nupes_port *port, const nupes_tensor *tensors, const uint8_t *memory,
                        int32_t place, int32_t n)
{
    const nupes_tensor *tensor = &tensors[port->tensor];
    const uint8_t *stored = memory + tensor->base;
    uint32_t at = (uint32_t)(place * tensor->channels + port->first + n);
    if (tensor->levels)
        return tensor->levels[stored[at]];
    int32_t bits = stored[2 * at] | (int32_t)stored[2 * at + 1] << 8;
    return bits > INT16_MAX ? bits - 65536 : bits;
}

/* Sum of products of a pixel's channels and a row of the second input, or a column. */
static int32_t row_sum(const nupes_layer *layer, const nupes_tensor *tensors, const uint8_t *memory,
                       int32_t place, int32_t n)
{
    const nupes_port *port = layer->inputs;
    int32_t sum = 0;
    for (int32_t i = 0; i < port->channels; i++) {
        int32_t row = layer->transposed ? n : i, column = layer->transposed ? i : n;
        sum += value_at(port, tensors, memory, place, i) *
               value_at(port + 1, tensors, memory, row, column);
    }
    return sum;
}

static int32_t bit_length(uint64_t value)
{
    int32_t bits = 0;
    for (; value; value >>= 1)
        bits++;
    return bits;
}

/* value * mantissa / 2^shift, rounded. */
static int32_t scale_token(int64_t value, int64_t mantissa, int32_t shift)
{
    return (int32_t)shift_right(value * mantissa + (INT64_C(1) << (shift - 1)), shift);
}

/* 2^15 * value / total. */
static int32_t divide(int32_t value, int64_t total)
{
    if (total < 2)
        total = 2;
    int32_t shift = bit_length((uint64_t)total);
    int64_t mantissa = ((INT64_C(1) << (15 + shift)) + total / 2) / total;
    if (mantissa > 65535) {
        mantissa = 32768;
        shift--;
    }
    return scale_token(value, mantissa, shift);
}

/* 2^15 * value / sqrt(variance). */
static int32_t divide_by_root(int64_t value, uint64_t variance)
{
    int32_t dropped = bit_length(variance) - 30;
    dropped = dropped < 0 ? 0 : dropped + dropped % 2;
    uint64_t d = variance >> dropped;
    int32_t half = (bit_length(d) + 1) / 2;
    uint64_t mantissa = 0, limit = UINT64_C(1) << (2 * (15 + half));
    for (int32_t bit = 15; bit >= 0; bit--) {
        uint64_t trial = mantissa | UINT64_C(1) << bit;
        if (trial * trial * d <= limit)
            mantissa = trial;
    }
    return scale_token(value, (int64_t)mantissa, half + dropped / 2);
}

static int32_t weighted_mean(const nupes_layer *layer, const nupes_tensor *tensors,
                             const uint8_t *memory, int32_t place, int32_t n)
{
    int64_t total = 0;
    for (int32_t i = 0; i < layer->inputs->channels; i++)
        total += value_at(layer->inputs, tensors, memory, place, i);
    return divide(row_sum(layer, tensors, memory, place, n), total);
}

/* A score of -2^15 is minus infinity. */
static int32_t below_largest(const nupes_layer *layer, const nupes_tensor *tensors,
                             const uint8_t *memory, int32_t place, int32_t n)
{
    int32_t largest = INT16_MIN;
    for (int32_t i = 0; i < layer->inputs->channels; i++) {
        int32_t value = value_at(layer->inputs, tensors, memory, place, i);
        largest = value > largest ? value : largest;
    }
    int32_t value = value_at(layer->inputs, tensors, memory, place, n);
    return value == INT16_MIN ? -65536 : value - largest;
}

static int32_t normalized(const nupes_layer *layer, const nupes_tensor *tensors,
                          const uint8_t *memory, int32_t place, int32_t n)
{
    int64_t count = layer->inputs->channels, first = 0, second = 0;
    for (int32_t i = 0; i < count; i++) {
        int64_t value = value_at(layer->inputs, tensors, memory, place, i);
        first += layer->centered ? value : 0;
        second += value * value;
    }
    int64_t value = count * value_at(layer->inputs, tensors, memory, place, n) - first;
    return divide_by_root(value, (uint64_t)(count * second - first * first + layer->epsilon));
}

static int32_t accumulate(const nupes_layer *layer, const nupes_tensor *tensors,
                          const uint8_t *weights, const uint8_t *memory, int32_t row,
                          int32_t column, int32_t n)
{
    int32_t place = row * layer->width + column;
    switch (layer->kind) { /* no default: compilers warn of a kind that is left out */
    case NUPES_CONV:
    case NUPES_AVERAGE:
    case NUPES_SELECT:
        return window_sum(layer, &tensors[layer->inputs->tensor], weights, memory, row, column, n);
    case NUPES_PRODUCT:
        return factor(&layer->inputs[0], tensors, memory, row, column, n) *
               factor(&layer->inputs[1], tensors, memory, row, column, n);
    case NUPES_SUM_OF_PRODUCTS:
        return sum_of_products(layer, tensors, memory, row, column, n);
    case NUPES_MATMUL:
        return row_sum(layer, tensors, memory, place, n);
    case NUPES_WEIGHTED_MEAN:
        return weighted_mean(layer, tensors, memory, place, n);
    case NUPES_SUBTRACT_MAX:
        return below_largest(layer, tensors, memory, place, n);
    case NUPES_NORMALIZE:
        return normalized(layer, tensors, memory, place, n);
    case NUPES_MAX:
    case NUPES_CONCAT:
    case NUPES_MOSAIC:
        break; /* these copy codes: they have no accumulator, and compute() returns before */
    }
    return 0;
}

/* The term of the skip tensor at `place`, a pixel of the result, in channel n. */
static int64_t skip_term(const nupes_layer *layer, const nupes_tensor *tensors,
                         const uint8_t *memory, int32_t place, int32_t n)
{
    if (layer->skip.rows * tensors[layer->skip.tensor].width == 1)
        place = 0;
    int64_t half = INT64_C(1) << (layer->skip_shift - 1);
    int64_t value = value_at(&layer->skip, tensors, memory, place, n);
    return shift_right(value * layer->skip_mult + half, layer->skip_shift);
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

/* Compute result number `at` of a layer: a code is stored, y is stored, emitted, or both. */
static void compute(const nupes_layer *layer, const nupes_tensor *tensors, const uint8_t *weights,
                    uint8_t *memory, int16_t *y, int32_t at)
{
    int32_t n = at % layer->channels, place = at / layer->channels;
    int32_t row = place / layer->width, column = place % layer->width;
    uint8_t *out = layer->output < 0 ? 0 : memory + tensors[layer->output].base;
    if (layer->kind == NUPES_MAX) {
        out[at] = largest_code(layer, &tensors[layer->inputs->tensor], memory, row, column, n);
        return;
    }
    if (layer->kind == NUPES_CONCAT) {
        out[at] = joined_code(layer, tensors, memory, row, column, n);
        return;
    }
    if (layer->kind == NUPES_MOSAIC) {
        out[at] = piece_code(layer, tensors, memory, row, column, n);
        return;
    }
    int64_t value = accumulate(layer, tensors, weights, memory, row, column, n);
    value = shift_right(value * layer->mult[n] + layer->bias[n], layer->shift[n]);
    if (layer->skip.tensor >= 0)
        value += skip_term(layer, tensors, memory, place, n);
    int16_t result = saturate(value);
    if (layer->codes) {
        out[at] = encode(layer, result);
        return;
    }
    if (out) {
        out[2 * at] = (uint8_t)(result & 255);
        out[2 * at + 1] = (uint8_t)((uint16_t)result >> 8);
    }
    if (layer->result >= 0)
        y[layer->result + n * layer->height * layer->width + place] = result;
}

void nupes_run(const nupes_network *network, const uint8_t *weights, uint8_t *memory, int16_t *y)
{
    for (int32_t i = 0; i < network->constant_count; i++) {
        const nupes_tensor *held = &network->tensors[network->input_count + i];
        for (int32_t at = 0; at < held->height * held->width * held->channels; at++)
            memory[held->base + at] = held->codes[at];
    }
    for (int32_t i = 0; i < network->layer_count; i++) {
        const nupes_layer *layer = &network->layers[i];
        for (int32_t at = 0; at < layer->height * layer->width * layer->channels; at++)
            compute(layer, network->tensors, weights, memory, y, at);
    }
}
