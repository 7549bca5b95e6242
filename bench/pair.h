/* SPDX-License-Identifier: MIT */
/*
 * Pairs of descriptors, and who moves bytes from one to the other.
 */
#ifndef FID_BENCH_PAIR_H
#define FID_BENCH_PAIR_H

#include "stage.h"

/* What stands at one end of a pair. */
enum end {
	END_FILE,   /* a file on the file system of --dir */
	END_MEMORY, /* a file on the file system of --memory-dir: tmpfs */
	END_PIPE,
	END_TCP, /* loopback */
};

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
	size_t copy_bytes;      /* that read/write asks for; 0: what serves it best */
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

/* loops.c: moves everything from descriptor 0 to 1. Returns 0 or -errno. */
int loop_run(const struct pair *pair, const struct loop *loop);

/* sample.c. False: the entrant cannot do the pair. */
bool sample_take(const struct pair *pair, const struct entrant *entrant,
		 struct sample *ret_sample);

/* pair.c: adds it to "pairs", and what matters about it to "conclusions". */
void pair_run(const struct pair *pair);

/* sweep.c */
struct scenario;
void sweep_pipe_run(const struct scenario *scenario);
void sweep_chunk_run(const struct scenario *scenario);

/* source.c: the name of a file of so many bytes, which is made when it is not there yet. */
const char *source_file(size_t bytes);

#endif
