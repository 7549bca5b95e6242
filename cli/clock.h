/* SPDX-License-Identifier: MIT */
/*
 * The time that goes on whatever somebody sets the clock to.
 */
#ifndef FID_CLI_CLOCK_H
#define FID_CLI_CLOCK_H

#include <stdint.h>
#include <time.h>

#define SECOND_NS UINT64_C(1000000000)
#define MILLISECOND_NS UINT64_C(1000000)

static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

#endif
