/* SPDX-License-Identifier: MIT */
/*
 * A contest: several entrants do the same job, in rounds, and what each cost is compared.
 */
#ifndef FID_BENCH_CONTEST_H
#define FID_BENCH_CONTEST_H

#include "bench.h"

enum { ENTRANTS_MAX = 10 };

/* What one entrant did in one round. */
struct sample {
	double cpu_s; /* user and system time of the mover */
	double wall_s;
	uint64_t bytes;
	char failure[48]; /* empty: it delivered every byte */
};

/* What is known about one entrant after all rounds. */
struct result {
	bool takes_part;
	unsigned rounds; /* that count */
	char failure[sizeof(((struct sample *)0)->failure)];
	double cpu[ROUNDS_MAX];   /* cpu-seconds a gigabyte (1e9 bytes) */
	double speed[ROUNDS_MAX]; /* GiB/s */
};

/* An entrant that is compared with another one than the first. */
struct versus {
	size_t entrant;
	size_t mark;
};

struct contest {
	const char *name;
	const char *title;
	const char *scenario; /* that it belongs to; NULL: its name */
	size_t at;            /* its place in a sweep; 0: it is not in one */
	unsigned shares;      /* how many contests share the time of the scenario; 0: one */
	const char *mark;     /* what the first entrant does, whom all are measured against */
	size_t count;
	const char *names[ENTRANTS_MAX];
	/* Runs one entrant once. False: it cannot do this job. */
	bool (*take)(const void *job, size_t entrant, struct sample *ret_sample);
	const void *job;
	struct versus versus[ENTRANTS_MAX]; /* ends with the first that has entrant 0 */
};

/*
 * Adds it to the list that is open in the document, and returns it there. results has room for
 * each entrant.
 */
const struct json *contest_run(const struct contest *contest, struct result *results);
bool is_sound(const struct result *result);
/* Of the cost of one entrant, or its speed, to that of another, round by round. */
struct summary cost_ratio(const struct result *result, const struct result *mark);
struct summary speed_ratio(const struct result *result, const struct result *mark);

#endif
