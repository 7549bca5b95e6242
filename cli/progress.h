/* SPDX-License-Identifier: MIT */
/*
 * The line that tells how far a transfer is, on standard error.
 */
#ifndef FID_CLI_PROGRESS_H
#define FID_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROGRESS_UNKNOWN UINT64_MAX

struct progress {
	bool wanted;
	bool terminal;     /* one line rewritten, and not a line a time */
	uint64_t start_ns; /* of the job */
	uint64_t next_ns;  /* of the next line */
	uint64_t seen_ns;  /* of the last line */
	uint64_t seen_bytes;
	double rate;  /* bytes a second, smoothed; below 0: none yet */
	size_t shown; /* columns of the line that stands there */
	const char *label;
};

/*
 * asked: from the start on, and on anything; else after one second, and on a terminal. label
 * begins each line, as far as there is room; NULL: none.
 */
void progress_begin(struct progress *progress, bool asked, const char *label);

/* Whether progress_tick() would print: what it wants to know may be dear to find out. */
bool progress_due(const struct progress *progress);

/* total: PROGRESS_UNKNOWN, or the bytes that there will be. */
void progress_tick(struct progress *progress, uint64_t bytes, uint64_t total);

/* On a terminal: a line in words, in place of the one that stands there. */
void progress_say(struct progress *progress, const char *text);

/* Leaves the terminal as it was; tells the last state where there is no terminal. */
void progress_end(struct progress *progress, uint64_t bytes);

/* Takes the line away, so that a message can be printed. */
void progress_clear(struct progress *progress);

#endif
