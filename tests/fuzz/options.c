/* SPDX-License-Identifier: MIT */
/*
 * fid_options_take() with structures of any size and any contents: it reads no byte past the
 * size that the structure tells, and answers as fid.h says.
 */
#include "options.h"
#include "fuzz.h"

#include <errno.h>

enum { KNOWN = 64, SMALLEST = 24, LONGEST = 4096 };

static bool is_zero(const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes[i])
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input = {data, bytes};
	/* The size told: near the sizes that matter, or anything. */
	uint16_t choice = input_u16(&input);
	size_t told = choice & 1 ? (size_t)input_u64(&input) : (size_t)(choice >> 1) % 200;
	/* The memory that is there: exactly what was told, so that a sanitizer sees one byte
	 * more. */
	size_t there = told < sizeof(told) ? sizeof(told) : told > LONGEST ? LONGEST : told;
	uint8_t *from = malloc(there);
	uint8_t ours[KNOWN + 1];
	int result;

	REQUIRE(from != NULL);
	input_take(&input, from, there);
	memcpy(from, &told, sizeof(told));
	memset(ours, 0xa5, sizeof(ours));
	result = fid_options_take(ours, KNOWN, from, SMALLEST);
	REQUIRE(ours[KNOWN] == 0xa5);
	if (told < SMALLEST) {
		REQUIRE(result == -EINVAL);
	} else if (told <= KNOWN) {
		REQUIRE(result == 0);
		REQUIRE(memcmp(ours, from, told) == 0);
		REQUIRE(is_zero(ours + told, KNOWN - told));
	} else if (told <= LONGEST && is_zero(from + KNOWN, told - KNOWN)) {
		/* What this library knows is taken, and the size it keeps is one it has. */
		REQUIRE(result == 0);
		REQUIRE(memcmp(ours + sizeof(told), from + sizeof(told),
			       KNOWN - sizeof(told)) == 0);
	} else {
		REQUIRE(result == -E2BIG);
	}
	free(from);

	memset(ours, 0xa5, sizeof(ours));
	REQUIRE(fid_options_take(ours, KNOWN, NULL, SMALLEST) == 0);
	REQUIRE(is_zero(ours, KNOWN) && ours[KNOWN] == 0xa5);
	return 0;
}
