/* SPDX-License-Identifier: MIT */
/*
 * tee FILE... gives the standard input to the standard output and to each FILE, and says on the
 * standard error how each of them got it. Pipes get references to the same pages.
 *
 *	tar c . | tee one.tar two.tar | ssh elsewhere 'tar x'
 */
#include <fcntl.h>
#include <fid.h>
#include <stdio.h>
#include <unistd.h>

/* Adds standard output, which is sink 0, and the files. Returns 0 or -1. */
static int add_sinks(struct fid_fan *fan, char **paths)
{
	int result = fid_fan_add(fan, STDOUT_FILENO, NULL);

	for (; result >= 0 && *paths; paths++) {
		int fd = open(*paths, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

		if (fd < 0) {
			perror(*paths);
			return -1;
		}
		/* The descriptor is borrowed until the fan is freed. */
		result = fid_fan_add(fan, fd, NULL);
	}
	if (result < 0)
		fprintf(stderr, "tee: %s\n", fid_error_name(result));
	return result < 0 ? -1 : 0;
}

static void say(const char *name, const struct fid_receipt *receipt)
{
	char text[1024];

	fid_receipt_text(receipt, text, sizeof(text));
	fprintf(stderr, "%s: %s\n", name, text);
}

int main(int argc, char **argv)
{
	const struct fid_receipt *receipt;
	struct fid_fan *fan;
	int result = fid_fan_new(&fan, STDIN_FILENO, NULL);

	if (result < 0) {
		fprintf(stderr, "tee: %s\n", fid_error_name(result));
		return 1;
	}
	if (add_sinks(fan, argv + 1) < 0)
		return 1;
	result = fid_fan_run(fan, -1);

	/* A sink that fails ends alone: that it did is in its receipt, and not in the result.
	 */
	say("standard input", fid_fan_receipt(fan));
	for (int i = 0; (receipt = fid_fan_sink_receipt(fan, i)); i++) {
		say(i == 0 ? "standard output" : argv[i], receipt);
		if (receipt->error && result == 0)
			result = receipt->error;
	}
	fid_fan_free(fan);
	return result < 0;
}
