/* SPDX-License-Identifier: MIT */
/*
 * fid why: what is known of two ends, the choice that follows, and what came of trying it.
 */
#ifndef FID_CLI_WHY_H
#define FID_CLI_WHY_H

#include "job.h"
#include "look.h"

/* What a transfer would do. */
struct prediction {
	/* The methods in the order of trying, without those that this kernel is known to
	 * refuse.
	 */
	struct fid_ladder ladder;
	const char *left_out[FID_METHODS_MAX]; /* by method; NULL: it is on the ladder */
	const char *nothing;                   /* why the ladder has no rung */
	int fatal;                             /* a negative errno value that ends a copy */
	struct fid_facts facts;
	uint64_t bytes_expected; /* UINT64_MAX: a stream, of which nobody knows */
	/* By rung: what would send a flow on to the next one, which only doing tells; or NULL.
	 */
	const char *unless[FID_METHODS_MAX];
};

/* What really happened to some bytes. */
struct trial {
	struct fid_receipt receipt;
	const char *source; /* what took the place of the end, in words */
	const char *sink;
	int error; /* what ended it too early: a negative errno value */
	bool agrees;
};

struct why {
	struct job job; /* first: the options that are shared know nothing of the rest */
	bool try;
	bool json;
	struct look source;
	struct look sink;
	struct prediction prediction;
	struct trial trial;
	bool tried;
};

/*
 * Moves some bytes from what the source is into what takes the place of the sink. Returns false
 * after a message when that cannot be done without taking or changing what is somebody's.
 */
bool why_try(struct why *why, const struct fid_options *options);

/* How far along the ladder the first way may be left: the last rung that doing may lead to. */
uint32_t why_last_rung(const struct prediction *prediction);

/* Print on standard output. Return false, after a message, when they cannot. */
bool why_show(const struct why *why);
bool why_show_json(const struct why *why);

#endif
