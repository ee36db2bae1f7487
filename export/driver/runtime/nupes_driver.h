/* A bare-metal driver of nupes_axi.
 *
 * The program image (program.bin) lies in memory that the accelerator reads; the driver writes the
 * input into its holes, starts the run, and takes the results from a buffer. Both are at multiples
 * of 16 bytes. Where caches are not coherent with the accelerator, `clean` makes writes visible to
 * it and `invalidate` makes its writes visible to the processor; either may be NULL.
 */
#ifndef NUPES_DRIVER_H
#define NUPES_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#include "network.h"
#include "nupes_registers.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    uintptr_t registers;      /* where the registers are */
    uint8_t *program;         /* NETWORK_IMAGE_BYTES, a copy of program.bin */
    uint64_t program_address; /* the same, as the accelerator sees it */
    uint8_t *results;         /* NETWORK_RESULT_BYTES */
    uint64_t results_address; /* the same, as the accelerator sees it */
    void (*clean)(const void *start, size_t bytes);
    void (*invalidate)(const void *start, size_t bytes);
} nupes_device;

/* What a function returns besides NUPES_RUN_*: what is there is not what the network needs. */
#define NUPES_FOREIGN -1     /* no nupes_axi, or one of another register map */
#define NUPES_OTHER_ARRAY -2 /* another configuration than the program was compiled for */
#define NUPES_BUSY -3        /* a run is under way */
#define NUPES_TOO_LONG -4    /* the run has not ended after so many polls */

/* Read and write a register: volatile accesses, or, with NUPES_EXTERNAL_IO, functions of yours. */
uint32_t nupes_read(const nupes_device *device, uint32_t offset);
void nupes_write(const nupes_device *device, uint32_t offset, uint32_t value);

/* Say whether this network runs here: 0, NUPES_FOREIGN or NUPES_OTHER_ARRAY. */
int nupes_check(const nupes_device *device);

/* Write the codes of all inputs, (height, width, channel) each, into the program. */
void nupes_set_input(const nupes_device *device, const uint8_t codes[NETWORK_CODES]);

/* Start a run: 0 or NUPES_BUSY. The interrupt is raised at its end if `interrupt` is not 0. */
int nupes_start(const nupes_device *device, int interrupt);

/* Poll until the run has ended: NUPES_RUN_OK, another NUPES_RUN_*, or NUPES_TOO_LONG. */
int nupes_wait(const nupes_device *device, uint32_t polls);

/* Clear the interrupt. */
void nupes_acknowledge(const nupes_device *device);

/* End a run that is under way; what is on the bus is completed. */
void nupes_abort(const nupes_device *device);

/* Take the values of all outputs, each (its shape), from the results of a run that was OK. */
void nupes_get_output(const nupes_device *device, int16_t y[NETWORK_VALUES]);

/* Do all of it for one image: NUPES_RUN_OK and `y`, or what went wrong. */
int nupes_run(const nupes_device *device, const uint8_t codes[NETWORK_CODES],
              int16_t y[NETWORK_VALUES], uint32_t polls);

/* Cycles of the last run, and the address at which the bus failed. */
uint64_t nupes_cycles(const nupes_device *device);
uint64_t nupes_error_address(const nupes_device *device);

#ifdef __cplusplus
}
#endif

#endif
