/* SPDX-License-Identifier: MIT */
/*
 * What fid_splice(), fid_tee() and fid_vmsplice() add to the bare calls.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BATCH = 16, BATCHES = 8, PAGE = 4096 };

/* What the calls work on. A batch of 16 calls of 64 KiB fills a pipe of 1 MiB. */
static struct {
	int file;
	int full[2];  /* a pipe that is kept full */
	int empty[2]; /* one that is emptied after each batch */
	int null;
	char *memory;
} ends;

/* Fills the pipe to the brim with pieces of these bytes. */
static void fill(int pipe, size_t bytes)
{
	for (int i = 0; i < BATCH; i++) {
		struct iovec segment = {ends.memory, bytes};

		if (vmsplice(pipe, &segment, 1, 0) != (ssize_t)bytes)
			fail("vmsplice");
	}
}

static void drain(int pipe, size_t bytes)
{
	for (size_t left = BATCH * bytes; left > 0;) {
		ssize_t gone = splice(pipe, NULL, ends.null, NULL, left, 0);

		if (gone <= 0)
			fail("splice");
		left -= (size_t)gone;
	}
}

/* The same call in the three ways; flags are for fid's. */
struct kind {
	const char *title;
	ssize_t (*bare)(size_t bytes);
	ssize_t (*ours)(size_t bytes, unsigned flags);
	bool takes; /* from a pipe that is filled before; else it gives, and is emptied after */
};

static ssize_t splice_in(size_t bytes)
{
	off64_t offset = 0;

	return splice(ends.file, &offset, ends.empty[1], NULL, bytes, 0);
}

static ssize_t fid_splice_in(size_t bytes, unsigned flags)
{
	int64_t offset = 0;

	return fid_splice(ends.file, &offset, ends.empty[1], NULL, bytes, flags);
}

static ssize_t splice_out(size_t bytes)
{
	return splice(ends.empty[0], NULL, ends.null, NULL, bytes, 0);
}

static ssize_t fid_splice_out(size_t bytes, unsigned flags)
{
	return fid_splice(ends.empty[0], NULL, ends.null, NULL, bytes, flags);
}

static ssize_t tee_over(size_t bytes)
{
	return tee(ends.full[0], ends.empty[1], bytes, 0);
}

static ssize_t fid_tee_over(size_t bytes, unsigned flags)
{
	return fid_tee(ends.full[0], ends.empty[1], bytes, flags);
}

static ssize_t vmsplice_in(size_t bytes)
{
	struct iovec segment = {ends.memory, bytes};

	return vmsplice(ends.empty[1], &segment, 1, 0);
}

static ssize_t fid_vmsplice_in(size_t bytes, unsigned flags)
{
	struct iovec segment = {ends.memory, bytes};

	return fid_vmsplice(ends.empty[1], &segment, 1, flags);
}

static const struct kind kinds[] = {
	{"splice, file -> pipe", splice_in, fid_splice_in, false},
	{"splice, pipe -> /dev/null", splice_out, fid_splice_out, true},
	{"tee, pipe -> pipe", tee_over, fid_tee_over, false},
	{"vmsplice, memory -> pipe", vmsplice_in, fid_vmsplice_in, false},
};

/* The ways to make a call. */
enum { BARE, FID, QUIET, WAYS };

/* Nanoseconds for one call. Filling and draining is not timed. */
static double time_calls(const struct kind *kind, size_t way, size_t bytes)
{
	double spent_s = 0;

	for (int batch = 0; batch < BATCHES; batch++) {
		double before;
		ssize_t got = (ssize_t)bytes;

		if (kind->takes)
			fill(ends.empty[1], bytes);
		before = seconds_now();
		for (int i = 0; i < BATCH && got == (ssize_t)bytes; i++) {
			if (way == BARE)
				got = kind->bare(bytes);
			else
				got = kind->ours(bytes, way == QUIET ? FID_NOSIGNAL : 0);
		}
		spent_s += seconds_now() - before;
		if (got != (ssize_t)bytes) {
			errno = got < -1 ? (int)-got : errno;
			fail(kind->title);
		}
		if (!kind->takes)
			drain(ends.empty[0], bytes);
	}
	return spent_s * 1e9 / (BATCHES * BATCH);
}

static void print_way(const char *name, const struct summary *more, const struct summary *ratio)
{
	printf("  %6.1f %6.1f-%-6.1f %6.3f", more->median, more->low, more->high,
	       ratio->median);
	json_open(name, '{');
	json_summary("more_ns", more);
	json_summary("ratio", ratio);
	json_close('}');
}

static void compare(const struct kind *kind, size_t bytes)
{
	static double ns[WAYS][SAMPLES_MAX], more[SAMPLES_MAX], ratio[SAMPLES_MAX];
	static const char *const names[WAYS] = {"bare", "fid", "fid_nosignal"};
	size_t samples = bench.quick ? 300 : 2000;
	struct summary bare;

	for (size_t i = 0; i < samples; i++)
		for (size_t way = 0; way < WAYS; way++)
			ns[(i + way) % WAYS][i] = time_calls(kind, (i + way) % WAYS, bytes);
	bare = summarise(ns[BARE], samples);
	printf("  %-26s %2zu KiB  %7.1f", kind->title, bytes / KIB, bare.median);
	json_open(NULL, '{');
	json_text("title", kind->title);
	json_number("bytes", (double)bytes);
	json_summary("bare_ns", &bare);
	for (size_t way = FID; way < WAYS; way++) {
		struct summary mores, ratios;

		for (size_t i = 0; i < samples; i++) {
			more[i] = ns[way][i] - ns[BARE][i];
			ratio[i] = ns[way][i] / ns[BARE][i];
		}
		mores = summarise(more, samples);
		ratios = summarise(ratio, samples);
		print_way(names[way], &mores, &ratios);
	}
	table_note("%s", "");
	json_close('}');
}

static void make_ends(void)
{
	char path[4096 + 16];

	ends.memory = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	snprintf(path, sizeof(path), "%s/calls", bench.dir);
	ends.file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ends.null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (ends.memory == MAP_FAILED || ends.file < 0 || ends.null < 0 ||
	    write(ends.file, ends.memory, 64 * KIB) != 64 * KIB ||
	    pipe2(ends.full, O_CLOEXEC) < 0 || pipe2(ends.empty, O_CLOEXEC) < 0 ||
	    fcntl(ends.full[1], F_SETPIPE_SZ, MIB) < 0 ||
	    fcntl(ends.empty[1], F_SETPIPE_SZ, MIB) < 0)
		fail("calls");
	unlink(path);
	fill(ends.full[1], 64 * KIB);
}

static void close_ends(void)
{
	close(ends.file);
	close(ends.null);
	for (int i = 0; i < 2; i++) {
		close(ends.full[i]);
		close(ends.empty[i]);
	}
	munmap(ends.memory, 64 * KIB);
}

void calls_run(void)
{
	make_ends();
	table_note("\ncalls: nanoseconds for one call, and how many more libfid takes, with "
		   "their ratio");
	table_note("  %-26s %6s  %7s  %-27s  %s", "", "", "bare", "libfid",
		   "with FID_NOSIGNAL");
	json_open("calls", '[');
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		compare(&kinds[i], PAGE);
		compare(&kinds[i], 64 * KIB);
	}
	json_close(']');
	close_ends();
}
