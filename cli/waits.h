/* SPDX-License-Identifier: MIT */
/*
 * The waits of a loop that steps a flow or a fan.
 */
#ifndef FID_CLI_WAITS_H
#define FID_CLI_WAITS_H

#include <poll.h>
#include <stdint.h>

struct waits {
	uint64_t moved;   /* when they began to bring nothing */
	unsigned in_vain; /* how many have */
};

/*
 * poll(2) for at most so long, UINT64_MAX for ever; moved is all that has moved until now.
 * Where poll says time and again that an end is ready, and nothing moves, it is not asked but
 * slept a little: an error queue that nobody reads would else take a whole processor.
 *
 * Returns what poll does, 0 after such a sleep, or a negative errno value: -EINTR for a signal.
 */
int waits_poll(struct waits *waits, uint64_t moved, struct pollfd *fds, nfds_t count,
	       uint64_t timeout_ns);

#endif
