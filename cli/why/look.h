/* SPDX-License-Identifier: MIT */
/*
 * What a named end is, without opening it: a path is only referred to (O_PATH), which wakes no
 * FIFO, rewinds no tape, empties no file and makes none. What is not there yet is described.
 */
#ifndef FID_CLI_LOOK_H
#define FID_CLI_LOOK_H

#include "endpoint.h"

struct look {
	const struct endpoint *endpoint;
	struct fid_end end;  /* as a transfer would have it, once it is open */
	bool exists;         /* a file that is there, a descriptor; no connection is */
	int forbidden;       /* the errno value with which opening it would fail; 0: none */
	int folder;          /* where a file that is not there would be; -1 */
	uint64_t pipe_bytes; /* the capacity of a pipe that is open; 0: not known */
};

/*
 * Both set the endpoint's descriptor and stat(2) as well, and return false after the message of
 * the transfer that would not begin. A sink that is not there is no failure, nor is one that
 * this user may not write to.
 */
bool look_at_source(struct look *ret_look, struct endpoint *source);
bool look_at_sink(struct look *ret_look, struct endpoint *sink, const struct endpoint *source,
		  bool append);

/* Closes what the look opened, and no descriptor that was handed in. */
void look_end(struct look *look);

#endif
