/* SPDX-License-Identifier: MIT */
/*
 * fid tee: what was asked for, and how it goes on.
 */
#ifndef FID_CLI_TEE_H
#define FID_CLI_TEE_H

#include "job.h"
#include "progress.h"

#include <unistd.h>

/* What it is when whoever reads a sink goes away. */
enum broken_pipe {
	BROKEN_PIPE_KILLS = 0, /* standard output's ends all, by SIGPIPE; else a failure */
	BROKEN_PIPE_FAILS,
	BROKEN_PIPE_IS_QUIET,
};

struct sink {
	struct endpoint end;
	bool ready;  /* opened, and to be given bytes */
	int number;  /* in the fan */
	int spill;   /* -1: none */
	bool failed; /* and that was told, where it is to be */
	struct fid_receipt receipt;
};

struct tee {
	struct job job; /* first: job_own.take() gets it */
	bool no_stdout;
	bool ignore_interrupts;
	uint32_t on_slow; /* enum fid_slow */
	uint32_t stall_ms;
	uint64_t spill_bytes;
	bool stop;
	enum broken_pipe broken_pipe;

	struct endpoint source;
	struct sink *sinks;
	size_t count;
	struct fid_fan *fan;
	struct fid_receipt receipt; /* of the source */
	struct progress progress;
	bool no_reader; /* of standard output, and that kills */
	int status;
};

static inline bool tee_is_stdout(const struct sink *sink)
{
	return sink->end.kind == ENDPOINT_DESCRIPTOR && sink->end.fd == STDOUT_FILENO;
}

/* Opens the sinks and gives them all bytes. Returns an exit status, or dies by a signal. */
int tee_spread(struct tee *tee);

#endif
