/* SPDX-License-Identifier: MIT */
/*
 * producer COUNT writes the numbers from 1 to COUNT, as seq(1) does, through memory that is
 * fresh: what goes into a pipe goes by reference where that pays, and is never written again.
 *
 *	producer 10000000 | wc -l
 */
#include <errno.h>
#include <fid.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	RECORD_BYTES = 24,     /* as much as a record may need */
	SEND_BYTES = 64 << 10, /* little is copied: the more at once, the better */
};

/* Writes one record. Returns its length, or -errno. */
static int produce(struct fid_memory *memory, unsigned long long number)
{
	ssize_t room;
	void *at;
	int bytes;

	/* The room may be used up by records that must leave first. */
	while ((room = fid_memory_reserve(memory, RECORD_BYTES, &at)) == -EAGAIN) {
		int error = fid_memory_run(memory, -1);

		if (error < 0)
			return error;
	}
	if (room < 0)
		return (int)room;
	/* Straight to where it is sent from: it is not copied on the way. */
	bytes = snprintf(at, RECORD_BYTES, "%llu\n", number);
	fid_memory_commit(memory, (size_t)bytes);
	return bytes;
}

int main(int argc, char **argv)
{
	const struct fid_memory_options options = {
		.size = sizeof(options),
		.mode = FID_MEMORY_FRESH,
	};
	unsigned long long count = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;
	struct fid_memory *memory;
	char text[1024];
	int waiting = 0;
	int result = fid_memory_new(&memory, STDOUT_FILENO, &options);

	if (result < 0) {
		fprintf(stderr, "producer: %s\n", fid_error_name(result));
		return 1;
	}
	for (unsigned long long number = 1; number <= count && result >= 0; number++) {
		result = produce(memory, number);
		waiting += result;
		if (result >= 0 && waiting >= SEND_BYTES) {
			result = fid_memory_run(memory, -1);
			waiting = 0;
		}
	}
	if (result >= 0)
		result = fid_memory_run(memory, -1);

	/* It says how the numbers went, and why so. */
	fid_receipt_text(fid_memory_receipt(memory), text, sizeof(text));
	fprintf(stderr, "producer: %s\n", text);
	fid_memory_free(memory);
	return result < 0;
}
