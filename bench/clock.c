/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <time.h>

static double seconds_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double seconds_now(void)
{
	return seconds_of(CLOCK_MONOTONIC);
}

double seconds_of_cpu(void)
{
	return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

bool clock_allows(size_t count, size_t most, double until_s)
{
	return count < most && (count < SAMPLES_MIN || seconds_now() < until_s);
}
