/* SPDX-License-Identifier: MIT */
/*
 * A loop around splice(2) that works in any container: the standard input to the standard
 * output, one of which is a pipe. Where the call is refused something else does the same, and
 * the loop does not see the difference.
 *
 *	splice <file | wc -c
 *	tar c . | splice >file
 */
#include <errno.h>
#include <fid.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

/* -EAGAIN does not say which end it means. Files are always ready. */
static void wait_for_both(void)
{
	struct pollfd source = {.fd = STDIN_FILENO, .events = POLLIN};
	struct pollfd sink = {.fd = STDOUT_FILENO, .events = POLLOUT};

	poll(&source, 1, -1);
	poll(&sink, 1, -1);
}

int main(void)
{
	uint64_t total = 0;
	ssize_t moved;

	do {
		/* A length that is too long for the kernel is not too long here. */
		moved = fid_splice(STDIN_FILENO, NULL, STDOUT_FILENO, NULL, SIZE_MAX, 0);
		if (moved > 0)
			total += (uint64_t)moved;
		else if (moved == -EAGAIN)
			wait_for_both();
	} while (moved > 0 || moved == -EAGAIN || moved == -EINTR);

	fprintf(stderr, "splice: %" PRIu64 " bytes\n", total);
	if (moved == 0)
		return 0;
	/*
	 * An error comes before anything has moved, so what is not in the total is still in the
	 * source, where read(2) finds it. That is all there is to do about a refusal for which
	 * nothing stands in.
	 */
	fprintf(stderr, "splice: %s%s\n", fid_error_name((int)moved),
		moved == -EINVAL ? ": is neither end a pipe?" : "");
	return 1;
}
