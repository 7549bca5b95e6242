/* SPDX-License-Identifier: MIT */
/*
 * The benchmark: what it costs the mover, and only the mover, to move a gigabyte between two
 * descriptors, from memory into a pipe, or from one pipe into several, for hand-written loops
 * of raw system calls, for libfid, and for commands.
 *
 * Rules. Everything that is compared runs in the same rounds, one after the other, and in a new
 * order each time, because a machine's speed drifts by more than what is looked for. Ratios are
 * taken within a round and only then summarised. Producers and consumers are processes of their
 * own, so that their time is not the mover's. Nothing here asserts a time.
 *
 * Measuring adds to the document of json.h; table.c, csv.c and plot.c show it.
 */
#ifndef FID_BENCH_BENCH_H
#define FID_BENCH_BENCH_H

#include "json.h"

#include <stdint.h>
#include <sys/types.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* Below this there is nothing to measure, and each piece of a job must be there once. */
#define VOLUME_MIN (4 * MIB)

/* No interval holds a median with 95 % below six samples. */
enum { ROUNDS_MIN = 6, ROUNDS_MAX = 64, SAMPLES_MIN = 32, SAMPLES_MAX = 4096 };

struct bench {
	const char *dir;        /* where files are made and removed */
	const char *memory_dir; /* the same on tmpfs */
	const char *fid;        /* the path of the command */
	const char *only;       /* fid-bench-ruby: run what has this in its name, or NULL */
	bool quick;             /* likewise: fewer samples */
	bool peers;             /* commands of others take part */
	double seconds;         /* for one scenario; 0: as many rounds as rounds says */
	unsigned rounds;        /* of a contest; 0: as many as there is time for */
	size_t volume_max;
	size_t volume; /* bytes of one sample of a pair; other jobs take a part of it */
};

extern struct bench bench;

/* Whether --only leaves it in. */
bool is_chosen(const char *name);

/* Prints what failed and ends the program. Each program has its own. */
_Noreturn void fail(const char *what);

/* report.c */
struct summary summarise(const double *samples, size_t count);
const char *verdict(const struct summary *ratio);
void table_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* facts.c: adds "facts", what has to be known of this machine. */
void facts_add(void);

/* clock.c */
double seconds_now(void);
double seconds_of_cpu(void);
/* Whether one more of count samples is wanted: at least SAMPLES_MIN, until the time is over. */
bool clock_allows(size_t count, size_t most, double until_s);

#endif
