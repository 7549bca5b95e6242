/* SPDX-License-Identifier: MIT */
/*
 * What Ruby adds to one call, which moves one page: arguments, the global lock that is given
 * back and taken again, and the descriptors that it watches for other threads' sake.
 */
#include "ruby.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, BATCH = 256, BATCHES = 4, WAYS_MAX = 5, BAR_NS = 1000 };

/* What the calls work on. A batch of 256 pages fills a pipe of 1 MiB. */
static struct {
	char path[4096 + 16];
	int file;
	int full[2];
	int empty[2];
	int null;
} ends;

/* The calls of a batch give to the pipe, which is emptied after it, or take from it. */
struct kind {
	const char *title;
	ssize_t (*bare)(void);
	bool takes;
	bool has_bar;
	const char *ways[WAYS_MAX]; /* as the worker calls them */
};

static ssize_t splice_in(void)
{
	off64_t offset = 0;

	return splice(ends.file, &offset, ends.empty[1], NULL, PAGE, 0);
}

static ssize_t splice_out(void)
{
	return splice(ends.empty[0], NULL, ends.null, NULL, PAGE, 0);
}

static ssize_t tee_over(void)
{
	return tee(ends.full[0], ends.empty[1], PAGE, 0);
}

static ssize_t copy_in(void)
{
	static char buffer[PAGE];

	if (pread(ends.file, buffer, PAGE, 0) != PAGE)
		return -1;
	return write(ends.empty[1], buffer, PAGE);
}

static const struct kind kinds[] = {
	{"splice, file -> pipe",
	 splice_in,
	 false,
	 true,
	 {"IO.splice", "IO.trysplice", "Fid.splice", "IO.splice, numbers"}},
	{"splice, pipe -> /dev/null", splice_out, true, true, {"IO.splice", "Fid.splice"}},
	{"tee, pipe -> pipe", tee_over, false, true, {"IO.tee", "Fid.tee"}},
	{"pread and write, file -> pipe",
	 copy_in,
	 false,
	 false,
	 {"Fid.copy", "IO::Splice.copy_stream", "IO.copy_stream", "pread, write"}},
};

static void fill(int pipe)
{
	static char buffer[BATCH * PAGE];

	if (write(pipe, buffer, sizeof(buffer)) != sizeof(buffer))
		fail("write");
}

static void drain(int pipe)
{
	for (size_t left = BATCH * PAGE; left > 0;) {
		ssize_t gone = splice(pipe, NULL, ends.null, NULL, left, 0);

		if (gone <= 0)
			fail("splice");
		left -= (size_t)gone;
	}
}

/* Nanoseconds for one call. Filling and draining is not timed. */
static double time_bare(const struct kind *kind)
{
	double spent_s = 0;

	for (int batch = 0; batch < BATCHES; batch++) {
		ssize_t got = PAGE;
		double before;

		if (kind->takes)
			fill(ends.empty[1]);
		before = seconds_now();
		for (int i = 0; i < BATCH && got == PAGE; i++)
			got = kind->bare();
		spent_s += seconds_now() - before;
		if (got != PAGE)
			fail(kind->title);
		if (!kind->takes)
			drain(ends.empty[0]);
	}
	return spent_s * 1e9 / (BATCHES * BATCH);
}

/* A way to make the call in Ruby. */
struct timing {
	char failure[sizeof(told->failure)]; /* empty: all went well */
	double ns[SAMPLES_MAX];
	double objects; /* that a call makes */
};

/* The same as time_bare() by the worker, unless that way has failed before. */
static void time_way(const struct kind *kind, const char *way, struct timing *timing,
		     size_t sample)
{
	int socket;

	if (timing->failure[0])
		return;
	socket = worker_socket();
	memset(told, 0, sizeof(*told));
	worker_tell(socket, NULL, 0, "calls\t%s\t%s\t%s\t%d", ends.path, kind->title, way,
		    BATCHES);
	/* It answers with two numbers, as always. */
	mover_note_answer(socket);
	timing->ns[sample] = account->cpu_s;
	timing->objects = told->wall_s;
	memcpy(timing->failure, told->failure, sizeof(timing->failure));
	if (timing->failure[0])
		worker_end();
}

static void print_way(const struct kind *kind, const char *way, const struct timing *timing,
		      const double *bare, size_t samples)
{
	static double more[SAMPLES_MAX];
	struct summary mores;
	const char *word = "";

	json_open(NULL, '{');
	json_text("way", way);
	if (timing->failure[0]) {
		table_note("    %-24s  %s", way, timing->failure);
		json_text("failure", timing->failure);
		json_close('}');
		return;
	}
	for (size_t i = 0; i < samples; i++)
		more[i] = timing->ns[i] - bare[i];
	mores = summarise(more, samples);
	if (kind->has_bar)
		word = mores.median < BAR_NS ? "  within the bar" : "  over the bar";
	table_note("    %-24s  %7.1f  %7.1f %7.1f-%-7.1f  %5.2f%s", way,
		   summarise(timing->ns, samples).median, mores.median, mores.low, mores.high,
		   timing->objects, word);
	json_number("ns", summarise(timing->ns, samples).median);
	json_summary("more_ns", &mores);
	json_number("objects", timing->objects);
	json_close('}');
}

static void compare(const struct kind *kind)
{
	static double bare[SAMPLES_MAX];
	static struct timing timings[WAYS_MAX];
	size_t samples = bench.quick ? 60 : 400;
	size_t count = 0;

	while (count < WAYS_MAX && kind->ways[count])
		count++;
	/* The first sample of each way is a rehearsal, whose place the next one takes. */
	for (size_t way = 0; way < count; way++) {
		timings[way].failure[0] = '\0';
		time_way(kind, kind->ways[way], &timings[way], 0);
	}
	for (size_t i = 0; i < samples; i++) {
		bare[i] = time_bare(kind);
		for (size_t turn = 0; turn < count; turn++) {
			size_t way = (i + turn) % count;

			time_way(kind, kind->ways[way], &timings[way], i);
		}
	}
	table_note("  %-26s  %7.1f", kind->title, summarise(bare, samples).median);
	json_open(NULL, '{');
	json_text("title", kind->title);
	json_number("bare_ns", summarise(bare, samples).median);
	json_open("ways", '[');
	for (size_t way = 0; way < count; way++)
		print_way(kind, kind->ways[way], &timings[way], bare, samples);
	json_close(']');
	json_close('}');
}

static void make_ends(void)
{
	snprintf(ends.path, sizeof(ends.path), "%s/overhead", bench.dir);
	ends.file = open(ends.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ends.null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (ends.file < 0 || ends.null < 0 || ftruncate(ends.file, 0) < 0)
		fail(ends.path);
	fill(ends.file);
	stage_pipe(MIB, &ends.full[0], &ends.full[1]);
	stage_pipe(MIB, &ends.empty[0], &ends.empty[1]);
	fill(ends.full[1]);
}

void overhead_run(void)
{
	make_ends();
	mover_begin();
	stage_pin(0);
	table_note(
		"\nruby-calls: nanoseconds for one call of 4 KiB, how many more than bare in "
		"C, and objects made"
		"\nThe bar for the three calls is %d more.",
		BAR_NS);
	table_note("    %-24s  %7s  %7s %15s  %7s", "", "ns", "more", "", "objects");
	json_open("calls", '[');
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		compare(&kinds[i]);
	json_close(']');
	unlink(ends.path);
	close(ends.file);
	close(ends.null);
	stage_close(ends.full, 2);
	stage_close(ends.empty, 2);
}
