/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <string.h>

int fid_options_take(void *ours, size_t known, const void *from, size_t smallest)
{
	size_t size = 0;

	memset(ours, 0, known);
	if (!from)
		return 0;
	memcpy(&size, from, sizeof(size));
	if (size < smallest)
		return -EINVAL;
	if (size > known) {
		const unsigned char *tail = (const unsigned char *)from;

		/* A structure of more than a page is not an option of tomorrow but garbage. */
		if (size > 4096)
			return -E2BIG;
		for (size_t i = known; i < size; i++)
			if (tail[i])
				return -E2BIG;
		size = known;
	}
	memcpy(ours, from, size);
	return 0;
}
