/* SPDX-License-Identifier: MIT */
/*
 * Looks at the beginning of the standard input, which is a pipe, says what it is, and passes
 * all of it on to the standard output.
 *
 *	curl -s https://example.org/x | stash >x
 *
 * tee(2) can look into a pipe and take nothing away. Where it is refused one must read to look,
 * and has bytes that the next splice(2) does not see. A stash keeps them and gives them first.
 */
#include <errno.h>
#include <fid.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Waits as long as it takes. poll(2) knows nothing of bytes in the stash. */
static void wait_for_both(const struct fid_stash *stash, int sink)
{
	struct pollfd from = {.fd = STDIN_FILENO, .events = POLLIN};
	struct pollfd to = {.fd = sink, .events = POLLOUT};

	if (fid_stash_bytes(stash) == 0)
		poll(&from, 1, -1);
	poll(&to, 1, -1);
}

/* Copies the first bytes that come to start. Returns how many, or -errno. */
static ssize_t look(struct fid_stash *stash, char *start, size_t bytes)
{
	ssize_t given;
	int ends[2];

	if (pipe(ends) < 0)
		return -errno;
	while ((given = fid_stash_tee(stash, ends[1], bytes, 0)) == -EAGAIN || given == -EINTR)
		wait_for_both(stash, ends[1]);
	if (given > 0)
		given = read(ends[0], start, bytes);
	close(ends[0]);
	close(ends[1]);
	return given;
}

static ssize_t pass_on(struct fid_stash *stash)
{
	ssize_t moved;

	do {
		moved = fid_stash_splice(stash, STDOUT_FILENO, NULL, SIZE_MAX, 0);
		if (moved == -EAGAIN)
			wait_for_both(stash, STDOUT_FILENO);
	} while (moved > 0 || moved == -EAGAIN || moved == -EINTR);
	return moved;
}

static const char *kind_of(const char *start, ssize_t bytes)
{
	if (bytes == 0)
		return "nothing";
	return bytes == 2 && memcmp(start, "\x1f\x8b", 2) == 0 ? "gzip" : "something";
}

int main(void)
{
	struct fid_stash *stash;
	char start[2];
	ssize_t result = fid_stash_new(&stash, STDIN_FILENO);

	if (result == 0) {
		result = look(stash, start, sizeof(start));
		if (result >= 0)
			fprintf(stderr, "stash: %s\n", kind_of(start, result));
		if (result > 0)
			result = pass_on(stash);
		/* After an error it may hold bytes, which fid_stash_salvage() hands over. */
		fid_stash_free(stash);
	}
	if (result < 0)
		fprintf(stderr, "stash: %s\n", fid_error_name((int)result));
	return result < 0;
}
