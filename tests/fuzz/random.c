/* SPDX-License-Identifier: MIT */
/*
 * Gives a harness random bytes for a moment, without any fuzzer. HARNESS is its name.
 */
#include "fuzz.h"
#include "test.h"

#include <time.h>

enum { BYTES_MAX = 4096, RUNS_MAX = 20000, SECONDS_MAX = 3 };

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* An abort inside ends this program, whose last line then is the seed. */
#define TEST_NAMED(name) TEST(name)
TEST_NAMED(HARNESS)
{
	uint64_t state = test_seed();
	double end = seconds() + SECONDS_MAX;
	uint8_t *data = malloc(BYTES_MAX);
	int runs = 0;

	CHECK(data != NULL);
	while (runs < RUNS_MAX && seconds() < end) {
		uint64_t word = test_random(&state);
		size_t bytes =
			(size_t)(word % 8 ? word >> 8 & 511 : word >> 8 & (BYTES_MAX - 1));

		for (size_t i = 0; i < bytes; i++)
			data[i] = (uint8_t)test_random(&state);
		LLVMFuzzerTestOneInput(data, bytes);
		runs++;
	}
	free(data);
	test_note("%d runs", runs);
	CHECK(runs > 0);
}
