#include "nupes_driver.h"

#define LANE_MASK ((1u << NETWORK_CODE_BITS) - 1)

#ifndef NUPES_EXTERNAL_IO
uint32_t nupes_read(const nupes_device *device, uint32_t offset)
{
    return *(volatile uint32_t *)(device->registers + offset);
}

void nupes_write(const nupes_device *device, uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)(device->registers + offset) = value;
}
#endif

static uint64_t read_wide(const nupes_device *device, uint32_t low, uint32_t high)
{
    uint64_t upper = nupes_read(device, high);
    return upper << 32 | nupes_read(device, low);
}

static void write_wide(const nupes_device *device, uint32_t low, uint32_t high, uint64_t value)
{
    nupes_write(device, low, (uint32_t)value);
    nupes_write(device, high, (uint32_t)(value >> 32));
}

int nupes_check(const nupes_device *device)
{
    uint32_t version = nupes_read(device, NUPES_VERSION);
    if (nupes_read(device, NUPES_IDENTITY) != NUPES_IDENTITY_MAGIC_VALUE ||
        version >> NUPES_VERSION_MAJOR_LOW_BIT != NUPES_MAP_MAJOR)
        return NUPES_FOREIGN;
    if (nupes_read(device, NUPES_CONFIGURATION) != NETWORK_DIGEST)
        return NUPES_OTHER_ARRAY;
    return 0;
}

/* The digit that a code of an input word is. */
static uint32_t digit(const uint8_t *codes, uint32_t source)
{
    if (source >> 31)
        return source & 0xff;
    return network_digits[source >> 24][codes[source & 0xffffff]];
}

void nupes_set_input(const nupes_device *device, const uint8_t codes[NETWORK_CODES])
{
    const uint32_t *source = network_sources;
    for (uint32_t i = 0; i < NETWORK_HOLES; i++) {
        uint8_t *word = device->program + (size_t)network_holes[i] * NETWORK_WORD_BYTES;
        uint32_t bits = 0, held = 0; /* bits that are not stored yet, and how many */
        uint32_t stored = 0;
        for (uint32_t lane = 0; lane < NETWORK_LANES; lane++) {
            bits |= (digit(codes, *source++) & LANE_MASK) << held;
            held += NETWORK_CODE_BITS;
            for (; held >= 8; held -= 8, bits >>= 8)
                word[stored++] = (uint8_t)bits;
        }
        if (held)
            word[stored++] = (uint8_t)bits;
        while (stored < NETWORK_WORD_BYTES)
            word[stored++] = 0;
    }
    if (device->clean)
        device->clean(device->program, NETWORK_IMAGE_BYTES);
}

int nupes_start(const nupes_device *device, int interrupt)
{
    if (!(nupes_read(device, NUPES_STATUS) & NUPES_STATUS_IDLE_MASK))
        return NUPES_BUSY;
    if (device->invalidate) /* no dirty line of the buffer may be written back later */
        device->invalidate(device->results, NETWORK_RESULT_BYTES);
    write_wide(device, NUPES_PROGRAM_LOW, NUPES_PROGRAM_HIGH, device->program_address);
    write_wide(device, NUPES_RESULT_LOW, NUPES_RESULT_HIGH, device->results_address);
    nupes_write(device, NUPES_PROGRAM_LENGTH, NETWORK_WORDS);
    nupes_write(device, NUPES_RESULT_LIMIT, NETWORK_RESULTS);
    nupes_acknowledge(device);
    nupes_write(device, NUPES_INTERRUPT_ENABLE, interrupt ? NUPES_INTERRUPT_ENABLE_DONE_MASK : 0);
    nupes_write(device, NUPES_CONTROL, NUPES_CONTROL_START_MASK);
    return 0;
}

int nupes_wait(const nupes_device *device, uint32_t polls)
{
    while (polls--) {
        uint32_t status = nupes_read(device, NUPES_STATUS);
        if ((status & NUPES_STATUS_DONE_MASK) && (status & NUPES_STATUS_IDLE_MASK))
            return (int)((status & NUPES_STATUS_STATUS_MASK) >> NUPES_STATUS_STATUS_LOW_BIT);
    }
    return NUPES_TOO_LONG;
}

void nupes_acknowledge(const nupes_device *device)
{
    nupes_write(device, NUPES_INTERRUPT_STATE, NUPES_INTERRUPT_STATE_DONE_MASK);
}

void nupes_abort(const nupes_device *device)
{
    nupes_write(device, NUPES_CONTROL, NUPES_CONTROL_ABORT_MASK);
}

void nupes_get_output(const nupes_device *device, int16_t y[NETWORK_VALUES])
{
    if (device->invalidate)
        device->invalidate(device->results, NETWORK_RESULT_BYTES);
    for (uint32_t i = 0; i < NETWORK_VALUES; i++) {
        const uint8_t *low = device->results + 2 * (size_t)network_places[i];
        y[i] = (int16_t)(uint16_t)(low[0] | low[1] << 8);
    }
}

int nupes_run(const nupes_device *device, const uint8_t codes[NETWORK_CODES],
              int16_t y[NETWORK_VALUES], uint32_t polls)
{
    int result = nupes_check(device);
    if (result)
        return result;
    nupes_set_input(device, codes);
    result = nupes_start(device, 0);
    if (result)
        return result;
    result = nupes_wait(device, polls);
    if (result == NUPES_RUN_OK)
        nupes_get_output(device, y);
    return result;
}

uint64_t nupes_cycles(const nupes_device *device)
{
    return read_wide(device, NUPES_CYCLES_LOW, NUPES_CYCLES_HIGH);
}

uint64_t nupes_error_address(const nupes_device *device)
{
    return read_wide(device, NUPES_ERROR_LOW, NUPES_ERROR_HIGH);
}
