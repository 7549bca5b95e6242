/* SPDX-License-Identifier: MIT */
/*
 * What it costs a Ruby program to move bytes, against the same by hand in C.
 *
 * A Ruby mover is one warm process, the worker, which is started once and gets its descriptors
 * and its work over a socket: the start of an interpreter is nobody's transfer. It keeps the
 * same CPU as the movers in C, one at a time.
 */
#ifndef FID_BENCH_RUBY_H
#define FID_BENCH_RUBY_H

#include "../pair.h"

/* ---- worker.c: the warm process ---- */

enum { MESSAGE_MAX = 8192, DESCRIPTORS_AT_ONCE = 250 };

/* How to start it: an argv that ends with NULL; the number of its socket is put behind. */
void worker_command(const char *const *argv);

/* Starts it unless it lives, and returns the socket. */
int worker_socket(void);

/* What it says of itself: fields divided by tabs. */
const char *worker_facts(void);

/* Lets it collect its garbage now, outside of what is timed. */
void worker_rest(void);

/* Ends it. It is started again when it is needed, and so it is when it has died. */
void worker_end(void);

/* A message, fields divided by tabs, and descriptors with it. False: nobody is there. */
bool worker_tell(int socket, const int *descriptors, size_t count, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
bool worker_hear(int socket, char *message, size_t capacity);

/* ---- mover.c: the process that moves, and what it tells ---- */

/* Beside struct account, in shared memory. */
struct told {
	double wall_s; /* of fibers: from the moment when all descriptors are there */
	char failure[sizeof(((struct sample *)0)->failure)];
};

extern struct told *told;

void mover_begin(void);

/* In a child, once the worker was told what to do: hears how it went and notes it. */
void mover_note_answer(int socket);

/* After stage_wait(): what stage_judge() finds, or what the worker complained of. */
void mover_judge(int status, uint64_t volume, struct sample *sample);

/* ---- stages.c: pairs of descriptors; take.c: one sample of one ---- */

struct stage {
	struct pair pair;
	/* What Ruby's loop over IO.splice does, and the C loop it is compared with. */
	struct loop polled;
};

enum mover_kind {
	MOVER_HAND,    /* the best loop known, on blocking descriptors */
	MOVER_POLLED,  /* the loop of struct stage on descriptors as Ruby makes them */
	MOVER_LIBRARY, /* fid_copy() on such descriptors */
	MOVER_RUBY,
};

struct mover {
	const char *name;
	enum mover_kind kind;
	bool splices;    /* it moves the larger volume */
	const char *how; /* what the worker calls it */
};

bool stage_take(const struct stage *stage, const struct mover *mover,
		struct sample *ret_sample);
void stages_run(void);
bool stages_chosen(void);

/* Said again at the end: a mover in Ruby to the mark and, where polled is not NULL, to it. */
void conclusion_add(const char *contest, const char *name, const struct result *result,
		    const struct result *mark, const struct result *polled);

/* polled.c: from descriptor 0 to 1, both O_NONBLOCK where they can be. 0 or -errno. */
int polled_run(const struct loop *loop);

/* ---- fibers.c: a thousand copies at once; crowd.c: the limit of that in C ---- */

enum { COPIES_MAX = 1000 };

struct crowd {
	size_t count;
	uint64_t bytes; /* of each copy */
	int sources[COPIES_MAX];
	int sinks[COPIES_MAX];
};

/* Two epoll loops, which close the ends of each copy when it is done. 0 or -errno. */
int crowd_by_hand(const struct crowd *crowd, bool through_pipes);
int crowd_by_flows(const struct crowd *crowd);

void fibers_run(void);

/* ---- overhead.c: one call ---- */

void overhead_run(void);

#endif
