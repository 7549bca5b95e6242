/* SPDX-License-Identifier: MIT */
/*
 * The real and the simulated kernel side by side: the same descriptors on both, the same calls
 * made on both, and every answer, offset, size and byte compared.
 */
#ifndef FID_BOTH_H
#define FID_BOTH_H

#include "sim.h"

#include <fcntl.h>

/* The descriptors of a script. */
enum slot {
	PIPE_OUT, /* a pipe: its read end, its write end */
	PIPE_IN,
	FULL_OUT, /* another one */
	FULL_IN,
	WAIT_OUT, /* a pipe that blocks */
	WAIT_IN,
	FILE_A, /* a file of FILE_BYTES, read and write */
	FILE_B, /* an empty file, read and write */
	APPEND, /* the same file with O_APPEND */
	NULL_DEVICE,
	FULL_DEVICE,
	SOCKET_A,
	SOCKET_B,
	FOLDER,
	TERMINAL,
	NOTHING, /* a number that is no descriptor */
	SLOTS,
};

enum { FILE_BYTES = 100001, BUFFER = 1 << 17, SEGMENTS_MOST = 1100 };

enum what {
	END = 0,
	READ,
	WRITE,
	SEND,
	SPLICE,
	TEE,
	SENDFILE,
	COPY,
	SEEK,
	SIZE,
	POLL,
	RESIZE,
	CAPACITY,
	CLOSE,
	FLAGS,
	VMSPLICE,
	SEGMENTS, /* vmsplice of so many segments (from) of so many bytes */
	PEEK,
};

#define OWN FID_OWN_OFFSET

struct step {
	enum what what;
	int a; /* a slot: the only descriptor, or the source */
	int b; /* the sink */
	int64_t bytes;
	int64_t from; /* offsets: OWN or where */
	int64_t to;
	unsigned flags;
};

/* What a call answered. */
struct answer {
	int64_t result;
	int64_t from;
	int64_t to;
	uint64_t digest;
};

/* One kernel and its descriptors. */
struct side {
	struct fid_kernel *kernel;
	int fd[SLOTS];
	bool closed[SLOTS];
	uint64_t random; /* for what is written: the same on both sides */
	unsigned char *buffer;
	unsigned char *lent; /* pipes may refer to it */
};

struct both {
	struct sim *sim;
	struct side real;
	struct side simulated;
	unsigned char *contents;
};

#define NB SPLICE_F_NONBLOCK

/* Both kernels with new descriptors; skips the test where the real one is no stock kernel. */
struct both *both_new(uint64_t seed);
void both_free(struct both *both);

/* Makes a call on both; a difference ends the test. number: which call of the script it is. */
void both_compare(struct both *both, const struct step *step, unsigned number);

/* A script ends with a step of zeros. */
void both_run(const struct step *steps);

#endif
