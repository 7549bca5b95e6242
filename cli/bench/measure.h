/* SPDX-License-Identifier: MIT */
/*
 * A process that measures, and this one, which watches over it: however it ends, no file and
 * no process of it remains.
 */
#ifndef FID_CLI_MEASURE_H
#define FID_CLI_MEASURE_H

#include "progress.h"

struct measure {
	const char *dir;       /* that files may be made in */
	uint64_t bytes;        /* room that is needed there */
	uint64_t memory_bytes; /* likewise on tmpfs; 0: it does not matter */
	int (*run)(void *context, const char *dir, const char *memory_dir);
	void *context;
	struct progress *progress; /* shared with the process that measures */
};

/* Returns the exit status of run(), or dies by the signal that ended it. */
int measure_run(const struct measure *measure);

#endif
