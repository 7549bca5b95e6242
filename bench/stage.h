/* SPDX-License-Identifier: MIT */
/*
 * The processes of one sample: a mover, and beside it producers and consumers.
 */
#ifndef FID_BENCH_STAGE_H
#define FID_BENCH_STAGE_H

#include "contest.h"

enum { CONSUMERS_MAX = 16, ARGUMENTS_MAX = 32 };

/* What a consumer does. */
enum reader { READER_NONE, READER_READS, READER_SPLICES };

/* What the processes of one sample tell, in shared memory. */
struct account {
	double cpu_s; /* of a mover that is no command */
	int error;    /* likewise */
	uint64_t consumed[CONSUMERS_MAX];
	uint64_t wrong; /* places where a consumer did not find what was sent */
};

/* That of the sample that stage_begin() has begun. */
extern struct account *account;

void stage_begin(void);

/*
 * A process that has these descriptors as 0, 1, 3, 4 and so on, and no others but 2; a negative
 * one is /dev/null. It dies with this process, and on its own when something hangs.
 */
pid_t stage_child(const int *descriptors, size_t count, void (*run)(const void *about),
		  const void *about);

/*
 * Keeps this process on the nth of the CPUs that it may use, as far as there are so many. Left
 * alone the scheduler runs a producer and its consumer now on one CPU and now on two, and the
 * cost of a byte differs by a factor of three between the two (seen on 6.18).
 */
void stage_pin(unsigned n);

void stage_pipe(size_t capacity, int *ret_read_end, int *ret_write_end);
/* A TCP connection over loopback. */
void stage_connection(int *ret_read_end, int *ret_write_end);
void stage_close(int *descriptors, size_t count);

/* For a consumer: empties descriptor 0, at most limit bytes of it if that is not 0. */
void stage_consume(enum reader reader, size_t bytes, uint64_t limit, unsigned consumer);

/* For a mover: becomes the command. */
_Noreturn void stage_become(const char *const *argv);

/* Waits for the mover, then for all others. Returns the mover's status. */
int stage_wait(pid_t mover, bool is_command, double begin_s, struct sample *ret_sample);

/* Says what is wrong with a sample whose bytes are known, if anything is. */
void stage_judge(int status, bool is_command, uint64_t volume, struct sample *sample);

#endif
