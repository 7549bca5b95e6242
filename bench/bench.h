/* SPDX-License-Identifier: MIT */
/*
 * The benchmark: what it costs the mover, and only the mover, to move a gigabyte between two
 * descriptors, from memory into a pipe, or from one pipe into four, for hand-written loops of
 * raw system calls, for libfid, and for commands.
 *
 * Rules. Everything that is compared runs in the same rounds, one after the other, and in a new
 * order each time, because a machine's speed drifts by more than what is looked for. Ratios are
 * taken within a round and only then summarised. Producers and consumers are processes of their
 * own, so that their time is not the mover's. Nothing here asserts a time.
 */
#ifndef FID_BENCH_H
#define FID_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* No interval holds a median with 95 % below six samples. */
enum { ROUNDS_MIN = 6, ROUNDS_MAX = 64, SAMPLES_MAX = 4096 };

struct bench {
	const char *dir;        /* where files are made and removed */
	const char *memory_dir; /* the same on tmpfs */
	const char *fid;        /* the path of the command */
	const char *only;       /* run what has this in its name, or NULL */
	bool quick;
	unsigned rounds;
	size_t volume; /* bytes of one sample of a pair, and the size of the source file */
	char source_path[4096];
};

extern struct bench bench;

/* Whether --only leaves it in. */
bool is_chosen(const char *name);

/* Prints what failed and ends the program. */
_Noreturn void fail(const char *what);

/* The middle of some samples, and an interval around it (see summarise()). */
struct summary {
	double median;
	double low;
	double high;
};

/* report.c */
struct summary summarise(const double *samples, size_t count);
const char *verdict(const struct summary *ratio);
void table_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* json.c: writes to --json, or nowhere. Names are literals; text is escaped. */
void json_to(FILE *file);
void json_open(const char *name, char bracket);
void json_close(char bracket);
void json_number(const char *name, double value);
void json_text(const char *name, const char *value);
void json_summary(const char *name, const struct summary *summary);

/* clock.c */
double seconds_now(void);
double seconds_of_cpu(void);

/* memory.c, constant.c, fan.c, calls.c, small.c, start.c, idle.c */
void memory_run(void);
void constant_run(void);
void fan_run(void);
void calls_run(void);
void small_run(void);
void start_run(void);
void idle_run(void);

#endif
