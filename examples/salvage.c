/* SPDX-License-Identifier: MIT */
/*
 * Saves the standard input, which cannot be read twice, to the file FIRST. When FIRST takes no
 * more (a full disk, a quota, a limit), the rest goes to SECOND, and not a byte is missing:
 * together they are what came in.
 *
 *	tar c . | salvage /small/disk/first /large/disk/second
 *
 * At the moment of the failure some bytes have left the source and not reached the sink. A flow
 * holds them, and fid_flow_salvage() hands them over.
 */
#include <fcntl.h>
#include <fid.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static int create(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0)
		perror(path);
	return fd;
}

/* Writes all that the flow still holds to fd. Returns how much, or -1. */
static int64_t write_held(struct fid_flow *flow, int fd)
{
	static char buffer[64 * 1024];
	int64_t written = 0;
	ssize_t got;

	while ((got = fid_flow_salvage(flow, buffer, sizeof(buffer))) > 0) {
		for (ssize_t put = 0; put < got;) {
			ssize_t once = write(fd, buffer + put, (size_t)(got - put));

			if (once < 0)
				return -1;
			put += once;
		}
		written += got;
	}
	return got < 0 ? -1 : written;
}

int main(int argc, char **argv)
{
	const struct fid_receipt *receipt;
	struct fid_flow *flow;
	int64_t held, rest;
	int first, second, error;

	if (argc != 3) {
		fprintf(stderr, "usage: salvage FIRST SECOND\n");
		return 2;
	}
	/* A limit on the size of files raises SIGXFSZ, which is not a matter of fid. */
	signal(SIGXFSZ, SIG_IGN);
	first = create(argv[1]);
	second = create(argv[2]);
	if (first < 0 || second < 0)
		return 1;
	error = fid_flow_new(&flow, STDIN_FILENO, first, NULL, NULL);
	if (error < 0) {
		fprintf(stderr, "salvage: %s\n", fid_error_name(error));
		return 1;
	}
	error = fid_flow_run(flow, -1);
	receipt = fid_flow_receipt(flow);
	printf("first: %s after %llu bytes, %llu held\n",
	       error < 0 ? fid_error_name(error) : "done",
	       (unsigned long long)receipt->bytes_out, (unsigned long long)receipt->bytes_held);
	if (error == 0) {
		fid_flow_free(flow);
		return 0;
	}

	/* Oldest first: what was held, then what is still in the source. */
	held = write_held(flow, second);
	rest = held < 0 ? -1 : fid_copy(STDIN_FILENO, second, NULL, NULL);
	if (rest < 0) {
		fprintf(stderr, "salvage: %s takes no bytes either\n", argv[2]);
		return 1;
	}
	receipt = fid_flow_receipt(flow);
	printf("second: %lld bytes salvaged, %lld from the source\n", (long long)held,
	       (long long)rest);
	printf("proof: %llu taken = %llu delivered + %llu salvaged + %llu held\n",
	       (unsigned long long)receipt->bytes_in, (unsigned long long)receipt->bytes_out,
	       (unsigned long long)receipt->bytes_salvaged,
	       (unsigned long long)receipt->bytes_held);
	fid_flow_free(flow);
	return 0;
}
