/*
 * base/wipe.h: secrets that are no longer needed. Stores that the compiler may not leave out, though nobody reads them.
 */
#ifndef TAUT_BASE_WIPE_H
#define TAUT_BASE_WIPE_H

#include <stddef.h>
#include <stdint.h>

static inline void wipe(void *secret, size_t bytes)
{
    volatile uint8_t *p = secret;

    for (size_t i = 0; i < bytes; i++)
        p[i] = 0;
}

#endif
