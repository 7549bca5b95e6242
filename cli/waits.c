/* SPDX-License-Identifier: MIT */
#include "waits.h"

#include "clock.h"
#include "signals.h"

#include <errno.h>

enum {
	BELIEVED = 8, /* in a row, before poll is not asked */
	DOUBLINGS = 6,
};

/* From 1 to 64 milliseconds. */
static uint64_t rest_ns(unsigned in_vain)
{
	unsigned more = in_vain - BELIEVED;

	return MILLISECOND_NS << (more < DOUBLINGS ? more : DOUBLINGS);
}

int waits_poll(struct waits *waits, uint64_t moved, struct pollfd *fds, nfds_t count,
	       uint64_t timeout_ns)
{
	int got;

	if (moved != waits->moved)
		*waits = (struct waits){.moved = moved};
	if (waits->in_vain >= BELIEVED) {
		uint64_t ns = rest_ns(waits->in_vain);

		waits->in_vain += waits->in_vain < BELIEVED + DOUBLINGS;
		return signals_poll(NULL, 0, ns < timeout_ns ? ns : timeout_ns);
	}
	/* For ever: the alarm of signals_catch() ends it where a signal came just before. */
	if (timeout_ns == UINT64_MAX) {
		got = poll(fds, count, -1);
		got = got < 0 ? -errno : got;
	} else {
		got = signals_poll(fds, count, timeout_ns);
	}
	waits->in_vain += got > 0;
	return got;
}
