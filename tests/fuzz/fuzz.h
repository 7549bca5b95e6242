/* SPDX-License-Identifier: MIT */
/*
 * A harness is one function from any bytes to silence, or an abort. clang's fuzzer calls it
 * (./dev fuzz); random.c calls it too, with random bytes, so that it is a test of every build.
 */
#ifndef FID_FUZZ_H
#define FID_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define REQUIRE(condition)                                                               \
	do {                                                                             \
		if (!(condition)) {                                                      \
			fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, \
				#condition);                                             \
			abort();                                                         \
		}                                                                        \
	} while (0)

/* The input, read from its front; past its end it is zeros. */
struct input {
	const uint8_t *data;
	size_t bytes;
};

static inline void input_take(struct input *input, void *to, size_t bytes)
{
	size_t here = bytes < input->bytes ? bytes : input->bytes;

	memset(to, 0, bytes);
	if (here)
		memcpy(to, input->data, here);
	input->data += here;
	input->bytes -= here;
}

static inline uint8_t input_byte(struct input *input)
{
	uint8_t value;

	input_take(input, &value, sizeof(value));
	return value;
}

static inline uint16_t input_u16(struct input *input)
{
	uint16_t value;

	input_take(input, &value, sizeof(value));
	return value;
}

static inline uint64_t input_u64(struct input *input)
{
	uint64_t value;

	input_take(input, &value, sizeof(value));
	return value;
}

#endif
