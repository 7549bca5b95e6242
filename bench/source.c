/* SPDX-License-Identifier: MIT */
/*
 * The files that are moved.
 */
#include "pair.h"

#include <fcntl.h>
#include <unistd.h>

/* What is written in part is tried again, for the reason why there was no more. */
static bool write_whole(int fd, const void *block, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t put = write(fd, (const char *)block + done, bytes - done);

		if (put < 0)
			return false;
		done += (size_t)put;
	}
	return true;
}

/* Bytes that do not repeat, written back before anything is timed. */
static void make(const char *path, size_t bytes)
{
	static uint64_t block[128 * KIB / sizeof(uint64_t)];
	uint64_t word = 1;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		fail(path);
	for (size_t done = 0; done < bytes; done += sizeof(block)) {
		for (size_t i = 0; i < sizeof(block) / sizeof(block[0]); i++)
			block[i] = word = word * 6364136223846793005u + 1442695040888963407u;
		if (!write_whole(fd, block, sizeof(block)))
			fail(path);
	}
	if (fsync(fd) < 0)
		fail(path);
	close(fd);
}

const char *source_file(size_t bytes)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/source-%zu", bench.dir, bytes);
	if (access(path, F_OK) < 0)
		make(path, bytes);
	return path;
}
