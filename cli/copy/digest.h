/* SPDX-License-Identifier: MIT */
/*
 * A digest of bytes that come through a pipe, made by a thread of its own. The algorithms are
 * those of libraries that are only loaded when one is asked for.
 */
#ifndef FID_CLI_DIGEST_H
#define FID_CLI_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES_MAX 32

struct digest_kind {
	const char *name;             /* "sha256" */
	const char *library;          /* as dlopen(3) wants it */
	const char *package;          /* of Debian */
	const char *tag;              /* that a line of a checksum file needs; or NULL */
	size_t bytes;                 /* of its value */
	const char *const *functions; /* what is looked up, ends with NULL */
	void *(*begin)(void);         /* NULL: no memory */
	bool (*add)(void *state, const void *bytes, size_t count);
	bool (*end)(void *state, unsigned char value[DIGEST_BYTES_MAX]);
	void (*free)(void *state);
};

/* The algorithm of that name, NULL for none. */
const struct digest_kind *digest_find(const char *name);

/* Their names, "sha256 or xxh3". */
extern const char digest_names[];

/* Loads its library. Returns false after a message. */
bool digest_load(const struct digest_kind *kind);

struct digest_result {
	const struct digest_kind *kind;       /* NULL: none was asked for */
	char value[2 * DIGEST_BYTES_MAX + 1]; /* in hexadecimal; empty: there is none */
	uint64_t bytes;
	double cpu_seconds; /* of the thread */
};

struct digest;

/*
 * A pipe that does not block and has room for so many bytes, 0 for a mebibyte, if the kernel
 * gives that much. Returns 0 or a negative errno value.
 */
int digest_open_pipe(int ret_ends[2], uint64_t bytes);

/* Makes the pipe and starts the thread. Returns 0 or a negative errno value. */
int digest_new(struct digest **ret_digest, const struct digest_kind *kind);

/* Where the bytes are to be written to; it does not block. */
int digest_pipe(const struct digest *digest);

/*
 * So many of all bytes belong to what the digest is of. Those beyond stay in the pipe: whoever
 * has just written them may yet learn that the sink did not get them.
 */
void digest_allow(struct digest *digest, uint64_t bytes);

/* Waits until all that is allowed and was written is in the digest, and ends it. */
struct digest_result digest_end(struct digest *digest);

/* What a receipt says of it: a sentence, or a key of its object. way: what went without it. */
#define DIGEST_TEXT 256
void digest_describe(char text[DIGEST_TEXT], const struct digest_result *result, bool json,
		     const char *way);

/* How a checksum file has it: "VALUE  NAME", with a newline. NULL: no memory. Free it. */
char *digest_line(const struct digest_result *result, const char *name);

#endif
