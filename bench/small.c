/* SPDX-License-Identifier: MIT */
/*
 * What fid_copy() adds to a read and a write of a kilobyte or four, where splicing cannot win.
 */
#include "scenario.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <string.h>
#include <unistd.h>

enum {
	BLOCK = 64 * 16, /* copies between two looks at the clock */
	BLOCKS_WISHED = 2000,
	KINDS = 6,
};

struct small {
	const char *title;
	int source, sink;
	bool streams; /* both are pipes, to be filled and drained by others */
	int feed, drain;
	size_t bytes;
};

static void by_hand(const struct small *small)
{
	static char buffer[16 * KIB];
	ssize_t got, put;

	got = read(small->source, buffer, small->bytes);
	put = write(small->sink, buffer, (size_t)got);
	if (put != (ssize_t)small->bytes)
		fail(small->title);
}

static void by_library(const struct small *small)
{
	const struct fid_options options = {
		.size = sizeof(options),
		.bytes_max = small->bytes,
	};
	int64_t moved = fid_copy(small->source, small->sink, &options, NULL);

	if (moved != (int64_t)small->bytes) {
		errno = moved < 0 ? (int)-moved : EIO;
		fail(small->title);
	}
}

/* Fills the pipe, or goes back to the start of the file; 64 KiB are there then. Not timed. */
static void feed(const struct small *small)
{
	static char buffer[64 * KIB];

	if (small->streams && write(small->feed, buffer, sizeof(buffer)) != sizeof(buffer))
		fail("write");
	if (!small->streams &&
	    (lseek(small->source, 0, SEEK_SET) != 0 || lseek(small->sink, 0, SEEK_SET) != 0))
		fail("lseek");
}

static void drain(const struct small *small)
{
	static char buffer[64 * KIB];
	ssize_t got = 0;

	for (size_t done = 0; small->streams && done < sizeof(buffer); done += (size_t)got) {
		got = read(small->drain, buffer, sizeof(buffer));
		if (got <= 0)
			fail("read");
	}
}

/* Nanoseconds of processor time for one copy. */
static double time_block(const struct small *small, void (*copy)(const struct small *))
{
	unsigned batch = (unsigned)(64 * KIB / small->bytes);
	double spent_s = 0;

	for (unsigned done = 0; done < BLOCK; done += batch) {
		double before;

		feed(small);
		before = seconds_of_cpu();
		for (unsigned i = 0; i < batch; i++)
			copy(small);
		spent_s += seconds_of_cpu() - before;
		drain(small);
	}
	return spent_s * 1e9 / BLOCK;
}

static void compare(const struct small *small)
{
	static double hand[SAMPLES_MAX], library[SAMPLES_MAX], ratio[SAMPLES_MAX];
	double until_s = seconds_now() + bench.seconds / KINDS;
	struct summary hand_ns, library_ns, ratios;
	size_t blocks = 0;

	for (; clock_allows(blocks, BLOCKS_WISHED, until_s); blocks++) {
		size_t i = blocks;

		if (i % 2)
			hand[i] = time_block(small, by_hand);
		library[i] = time_block(small, by_library);
		if (i % 2 == 0)
			hand[i] = time_block(small, by_hand);
		ratio[i] = library[i] / hand[i];
	}
	hand_ns = summarise(hand, blocks);
	library_ns = summarise(library, blocks);
	ratios = summarise(ratio, blocks);
	json_open(NULL, '{');
	json_text("title", small->title);
	json_number("bytes", (double)small->bytes);
	json_number("samples", (double)blocks);
	json_summary("read_write_ns", &hand_ns);
	json_summary("fid_copy_ns", &library_ns);
	json_summary("ratio", &ratios);
	json_close('}');
}

static int open_file(const char *dir, const char *name)
{
	static const char zeros[64 * KIB];
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, zeros, sizeof(zeros)) != sizeof(zeros))
		fail(path);
	unlink(path);
	return fd;
}

void small_run(const struct scenario *scenario)
{
	int in[2], out[2];
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (null < 0 || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		fail("small");
	json_open("small", '[');
	for (size_t bytes = KIB; bytes <= 4 * KIB; bytes *= 4) {
		int file = open_file(bench.dir, "small");
		int from = open_file(bench.memory_dir, "fid-small-source");
		int to = open_file(bench.memory_dir, "fid-small-sink");

		compare(&(struct small){"file -> /dev/null", file, null, .bytes = bytes});
		compare(&(struct small){"tmpfs file -> same", from, to, .bytes = bytes});
		compare(&(struct small){"pipe -> pipe", in[0], out[1], true, in[1], out[0],
					bytes});
		close(file);
		close(from);
		close(to);
	}
	json_close(']');
	close(null);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
}
