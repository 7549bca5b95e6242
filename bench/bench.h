/* SPDX-License-Identifier: MIT */
/*
 * The benchmark: what it costs the mover, and only the mover, to move a gigabyte between two
 * descriptors, for a hand-written loop of raw system calls, for libfid, and for commands.
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
enum {
	ROUNDS_MIN = 6,
	ROUNDS_MAX = 64,
	ENTRANTS_MAX = 9,
	ARGUMENTS_MAX = 32,
	SAMPLES_MAX = 4096
};

/* What stands at one end of a pair. */
enum end {
	END_FILE,   /* a file on the file system of --dir */
	END_MEMORY, /* a file on the file system of --memory-dir: tmpfs */
	END_PIPE,
	END_TCP, /* loopback */
};

/* What the process behind a pipe or socket sink does. */
enum reader { READER_NONE, READER_READS, READER_SPLICES };

/* A loop of raw system calls. */
enum loop_call {
	LOOP_READ_WRITE,
	LOOP_SPLICE,
	LOOP_SPLICE_PIPE,
	LOOP_SENDFILE,
	LOOP_COPY_RANGE
};

struct loop {
	enum loop_call call;
	size_t bytes; /* asked for by each call */
	size_t pipe;  /* capacity of the private pipe, LOOP_SPLICE_PIPE only */
};

struct pair {
	const char *name;
	const char *title;
	enum end source;
	enum end sink;
	enum reader reader;
	size_t source_pipe; /* capacity of the pipe that is the source; 0: as pipe(2) makes it
			     */
	size_t sink_pipe;
	size_t sink_pipe_grown; /* the hand-written loop may grow the sink to this; 0: it may
				   not */
	struct loop hand;       /* the hand-written loop that is the mark */
	const char *hand_title;
	uint32_t library_flags;  /* for fid_options.flags */
	unsigned splicing_times; /* entrants that splice move so many times the volume */
};

extern const struct pair pairs[];
extern const size_t pairs_count;

/* One way of moving the bytes of a pair. */
enum entrant_kind {
	ENTRANT_HAND,
	ENTRANT_READ_WRITE,
	ENTRANT_LIBRARY,
	ENTRANT_FID,
	ENTRANT_PEER,
};

struct entrant {
	const char *name;
	enum entrant_kind kind;
	bool splices; /* on some pair; then it needs the larger volume for a cost to be seen */
	bool names_files; /* from file to file it opens both by name, and makes the sink */
	/* Fills argv for the pair and returns true, or returns false: it cannot do the pair. */
	bool (*command)(const struct pair *pair, unsigned times, const char *source,
			const char *sink, const char **argv);
};

extern const struct entrant entrants[ENTRANTS_MAX];

struct bench {
	const char *dir;        /* where files are made and removed */
	const char *memory_dir; /* the same on tmpfs */
	const char *fid;        /* the path of the command */
	const char *only;       /* run what has this in its name, or NULL */
	bool quick;
	unsigned rounds;
	size_t volume; /* bytes of one sample, and the size of the source file */
	char source_path[4096];
};

extern struct bench bench;

/* What one entrant did in one round. */
struct sample {
	double cpu_s; /* user and system time of the mover */
	double wall_s;
	uint64_t bytes;
	char failure[48]; /* empty: it delivered every byte */
};

/* The middle of some samples, and an interval around it (see summarise()). */
struct summary {
	double median;
	double low;
	double high;
};

/* loops.c: moves everything from descriptor 0 to 1. Returns 0 or -errno. */
int loop_run(const struct pair *pair, const struct loop *loop);

/* sample.c. False: the entrant cannot do the pair. */
bool sample_take(const struct pair *pair, const struct entrant *entrant,
		 struct sample *ret_sample);
double seconds_now(void);
double seconds_of_cpu(void);

/* pair.c */
/* What matters about a pair. A median of 0: it could not be measured. */
struct conclusion {
	const struct pair *pair;
	struct summary library; /* fid_copy() to the hand loop */
	struct summary command; /* the command to the cheapest of its peers */
	const char *peer;
};

void pair_run(const struct pair *pair, struct conclusion *ret_conclusion);
void pair_conclusions(const struct conclusion *conclusions, size_t count);

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

/* small.c, start.c, idle.c */
void small_run(void);
void start_run(void);
void idle_run(void);

/* Prints what failed and ends the program. */
_Noreturn void fail(const char *what);

#endif
