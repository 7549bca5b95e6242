/* SPDX-License-Identifier: MIT */
/*
 * What fid_splice(), fid_tee() and fid_vmsplice() add to the bare calls.
 */
#include "scenario.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BATCH = 16, BATCHES = 8, PAGE = 4096, SAMPLES_WISHED = 2000 };

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

		/* Where one of the calls is refused the others can be measured. */
		if (vmsplice(pipe, &segment, 1, 0) != (ssize_t)bytes &&
		    write(pipe, ends.memory, bytes) != (ssize_t)bytes)
			fail("write");
	}
}

static void drain(int pipe, size_t bytes)
{
	static char buffer[64 * KIB];

	for (size_t left = BATCH * bytes; left > 0;) {
		ssize_t gone = splice(pipe, NULL, ends.null, NULL, left, 0);

		if (gone < 0)
			gone = read(pipe, buffer, sizeof(buffer));
		if (gone <= 0)
			fail("read");
		left -= (size_t)gone;
	}
}

/* What calls have left behind that failed. */
static void empty_out(int pipe)
{
	int there = 0;

	while (ioctl(pipe, FIONREAD, &there) == 0 && there > 0) {
		static char buffer[64 * KIB];

		if (read(pipe, buffer, sizeof(buffer)) <= 0)
			fail("read");
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

/*
 * Nanoseconds for one call. Filling and draining is not timed. Where the call fails the result
 * is NAN, and errno says why.
 */
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
			int error = got >= 0 ? EIO : got < -1 ? (int)-got : errno;

			empty_out(ends.empty[0]);
			errno = error;
			return NAN;
		}
		if (!kind->takes)
			drain(ends.empty[0], bytes);
	}
	return spent_s * 1e9 / (BATCHES * BATCH);
}

static void add_way(const char *name, const double *ns, const double *bare, size_t samples)
{
	static double more[SAMPLES_MAX], ratio[SAMPLES_MAX];
	struct summary mores, ratios;

	for (size_t i = 0; i < samples; i++) {
		more[i] = ns[i] - bare[i];
		ratio[i] = ns[i] / bare[i];
	}
	mores = summarise(more, samples);
	ratios = summarise(ratio, samples);
	json_open(name, '{');
	json_summary("more_ns", &mores);
	json_summary("ratio", &ratios);
	json_close('}');
}

static void compare(const struct kind *kind, size_t bytes, double seconds)
{
	static double ns[WAYS][SAMPLES_MAX];
	double until_s = seconds_now() + seconds;
	size_t samples = 0;
	struct summary bare;
	int error = 0;

	for (; !error && clock_allows(samples, SAMPLES_WISHED, until_s); samples++)
		for (size_t turn = 0; turn < WAYS && !error; turn++) {
			size_t way = (samples + turn) % WAYS;

			ns[way][samples] = time_calls(kind, way, bytes);
			error = isnan(ns[way][samples]) ? errno : 0;
		}
	json_open(NULL, '{');
	json_text("title", kind->title);
	json_number("bytes", (double)bytes);
	if (error) {
		json_text("failure", fid_error_name(-error));
		json_close('}');
		return;
	}
	bare = summarise(ns[BARE], samples);
	json_number("samples", (double)samples);
	json_summary("bare_ns", &bare);
	add_way("fid", ns[FID], ns[BARE], samples);
	add_way("fid_nosignal", ns[QUIET], ns[BARE], samples);
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

void calls_run(const struct scenario *scenario)
{
	size_t count = sizeof(kinds) / sizeof(kinds[0]);
	double share_s = bench.seconds / (double)(2 * count);

	make_ends();
	json_open("calls", '[');
	for (size_t i = 0; i < count; i++) {
		compare(&kinds[i], PAGE, share_s);
		compare(&kinds[i], 64 * KIB, share_s);
	}
	json_close(']');
	close_ends();
}
