/* SPDX-License-Identifier: MIT */
/*
 * constant TIMES LINE writes 64 KiB of LINE, again and again, from one piece of memory that
 * nobody can change any more. So it needs not be copied: a pipe gets references to it, and so
 * does a socket.
 *
 *	constant 1000 yes | head -n 5
 */
#include <errno.h>
#include <fid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BYTES = 64 << 10 };

/* Fills the constant with whole lines and seals it. Returns its length, or -errno. */
static ssize_t fill(struct fid_memory *memory, const char *line)
{
	size_t length = strlen(line), filled = 0;
	void *room;
	ssize_t got = fid_memory_reserve(memory, BYTES, &room);

	if (got < 0)
		return got;
	for (char *at = room; filled + length + 1 <= BYTES; filled += length + 1) {
		memcpy(at + filled, line, length);
		at[filled + length] = '\n';
	}
	fid_memory_commit(memory, filled);
	got = fid_memory_seal(memory);
	return got < 0 ? got : (ssize_t)filled;
}

/* Only a pipe takes memory by reference. */
static int send_memory(struct fid_memory *memory, size_t bytes)
{
	int result = fid_memory_queue(memory, 0, bytes);

	return result < 0 ? result : fid_memory_run(memory, -1);
}

/* But the constant is a file, too, and a socket takes pages of a file. */
static int send_file(struct fid_memory *memory, size_t bytes)
{
	const struct fid_options options = {
		.size = sizeof(options),
		.flags = FID_SOURCE_OFFSET, /* 0, whoever else reads the file */
		.bytes_max = bytes,
	};
	int64_t moved = fid_copy(fid_memory_descriptor(memory), STDOUT_FILENO, &options, NULL);

	return moved < 0 ? (int)moved : 0;
}

int main(int argc, char **argv)
{
	const struct fid_memory_options options = {
		.size = sizeof(options),
		.mode = FID_MEMORY_CONST,
		.bytes_max = BYTES,
	};
	long times = argc == 3 ? atol(argv[1]) : 0;
	struct fid_memory *memory;
	struct stat stat;
	ssize_t bytes;
	int result;

	if (argc != 3 || strlen(argv[2]) >= BYTES || fstat(STDOUT_FILENO, &stat) < 0) {
		fprintf(stderr, "usage: constant TIMES LINE\n");
		return 2;
	}
	result = fid_memory_new(&memory, STDOUT_FILENO, &options);
	if (result == 0) {
		bytes = fill(memory, argv[2]);
		result = bytes < 0 ? (int)bytes : 0;
		for (long i = 0; i < times && result == 0; i++)
			result = S_ISSOCK(stat.st_mode) ? send_file(memory, (size_t)bytes)
							: send_memory(memory, (size_t)bytes);
		fid_memory_free(memory);
	}
	/* A reader that has enough is no failure. */
	if (result == 0 || result == -EPIPE)
		return 0;
	fprintf(stderr, "constant: %s\n", fid_error_name(result));
	return 1;
}
