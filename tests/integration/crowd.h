/* SPDX-License-Identifier: MIT */
/*
 * A fan with its source, its sinks and everybody at their far ends.
 */
#ifndef FID_CROWD_H
#define FID_CROWD_H

#include "ends.h"

enum { CROWD_MAX = 48 };

/* A source: a pipe that somebody feeds by vmsplice(2), so that its slots are of any size. */
#define END_VMSPLICED END_KINDS

struct member {
	struct end end; /* its peer; a descriptor of the test itself has none */
	int fd;
	int status_flags;
	int spill;
	bool has_peer;
};

struct crowd {
	struct fid_fan *fan;
	struct end source;
	const unsigned char *bytes; /* NULL: the source has its own, which are kept */
	size_t size;
	int source_flags;
	unsigned count;
	struct member member[CROWD_MAX];
	struct fid_fan_wait wait;
	bool waits; /* the last step asked for the wait */
	uint64_t random;
};

/* Opens a source of so many bytes and a fan; options may be NULL. */
void crowd_open(struct crowd *crowd, enum end_kind source, const unsigned char *bytes,
		size_t size, const struct fid_fan_options *options);

/* Adds a sink whose peer compares what arrives. pipe_bytes 0: the usual. */
int crowd_add(struct crowd *crowd, enum end_kind kind, int pipe_bytes, bool slow,
	      const struct fid_fan_sink_options *options);

/* Adds a sink of a random kind, speed and policy, which will get everything all the same. */
void crowd_add_any(struct crowd *crowd);

/* Adds a descriptor of the test's own, which stays its own. */
int crowd_add_fd(struct crowd *crowd, int fd, const struct fid_fan_sink_options *options);

enum drive { DRIVE_RUN, DRIVE_SLICES, DRIVE_STEP, DRIVES };

const char *drive_name(enum drive drive);

/* Steps or runs to the end and returns what that returned; -EINTR is gone over. */
int crowd_drive(struct crowd *crowd, enum drive drive);

/* The wait that the last step asked for, and a step. */
int crowd_step(struct crowd *crowd);

/* Every receipt balances. */
void crowd_check(struct crowd *crowd);

/* A member has got all of it, and its receipt says so. */
void crowd_check_complete(struct crowd *crowd, int number, size_t size);

/* What is to be salvaged for a sink, or -1, is what follows the bytes that it got. */
size_t crowd_salvage(struct crowd *crowd, int number);

/*
 * Frees the fan and closes everything; fails if a member with a peer got other bytes than its
 * receipt says, or if a descriptor's flags were changed.
 */
void crowd_close(struct crowd *crowd);

#endif
