/* SPDX-License-Identifier: MIT */
/*
 * How fast a run may go: a bucket that fills as time goes by, from which flows get bytes.
 * Nothing here looks at a clock or sleeps, so that a test can tell the time.
 */
#ifndef FID_CLI_PACE_H
#define FID_CLI_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
	uint64_t rate;        /* bytes a second; 0: as fast as it goes */
	uint64_t slice_bytes; /* the least that is granted at once */
	uint64_t burst_bytes; /* the most that is saved up */
	uint64_t seen_ns;     /* when the bucket was last looked at */
	double saved;         /* bytes in the bucket */
	bool started;
};

/* The bucket begins to fill when it is first looked at, and holds one slice then. */
void pace_begin(struct pace *pace, uint64_t rate);

/* From now on each slice is of whole pages, however seldom that is: O_DIRECT takes no less. */
void pace_keep_pages(struct pace *pace);

/* Takes out of the bucket what may be moved now. 0: too little for a slice. */
uint64_t pace_take(struct pace *pace, uint64_t now_ns);

/* Puts back what was taken out and not moved. */
void pace_give_back(struct pace *pace, uint64_t bytes);

/* How long to sleep until pace_take() gives something. */
uint64_t pace_wait_ns(const struct pace *pace, uint64_t now_ns);

#endif
