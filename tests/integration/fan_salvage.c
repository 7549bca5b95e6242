/* SPDX-License-Identifier: MIT */
/*
 * Fans that are salvaged in the middle and go on, and fans whose source somebody else reads.
 * The test is the only one at the far ends, and never waits: what happens is always the same.
 */
#include "deny.h"
#include "ends.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { BYTES = 400000, LARGE = 4 << 20, STEPS_MAX = 10000, IDLE_STEPS_MAX = 20 };

static unsigned char content[BYTES];
static unsigned char arrived[BYTES + 1];
static unsigned char salvaged[BYTES + 1];

struct setting {
	const char *name;
	enum end_kind source;
	enum end_kind sink;
	uint32_t routes;
	uint32_t pipes_max; /* 0: as many as there are sinks, and more */
	size_t sink_most;   /* so much is salvaged for the sink, and of what it has not had */
	size_t window_most;
};

static const struct setting of_sinks[] = {
	{"a copying fan", END_PIPE, END_PIPE, FID_ROUTE(FID_READ_WRITE), 0, BYTES, 0},
	{"a part", END_PIPE, END_UNIX, FID_ROUTE(FID_READ_WRITE), 0, 1000, 0},
	{"a copying fan of a file", END_FILE, END_UNIX, FID_ROUTE(FID_READ_WRITE), 0, BYTES,
	 BYTES},
	{"references to a pipe", END_PIPE, END_UNIX, 0, 0, BYTES, BYTES},
	{"references to a file", END_FILE, END_UNIX, 0, 0, BYTES, 1000},
};

/* The pool has a pipe for the fan itself and none for its sink, which gets copies. */
static const struct setting of_pipes[] = {
	{"one pipe, and none of it", END_FILE, END_UNIX, 0, 1, BYTES, 0},
	{"one pipe, and a part of it", END_FILE, END_UNIX, 0, 1, BYTES, 1000},
	{"one pipe, and all of it", END_FILE, END_UNIX, 0, 1, BYTES, BYTES},
	{"one pipe, and parts", END_FILE, END_UNIX, 0, 1, 100000, 70000},
};

struct stage {
	struct fid_fan *fan;
	struct fid_pool *pool;
	int source;
	int sink[2]; /* the test reads [0] */
	size_t arrived;
};

static int open_file(const char *name, const unsigned char *bytes, size_t count)
{
	int fd = open(scratch(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_EQUAL(write(fd, bytes, count), count);
	CHECK_EQUAL(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static int open_source(enum end_kind kind)
{
	int ends[2];

	if (kind == END_PIPE) {
		CHECK(pipe2(ends, O_CLOEXEC) == 0);
		CHECK(fcntl(ends[1], F_SETPIPE_SZ, 1 << 20) == 1 << 20);
		CHECK_EQUAL(write(ends[1], content, BYTES), BYTES);
		close(ends[1]);
		return ends[0];
	}
	return open_file("source", content, BYTES);
}

static struct stage stage_open(const struct setting *setting)
{
	struct fid_pool_options of_pool = {.size = sizeof(of_pool),
					   .pipes_max = setting->pipes_max};
	struct fid_fan_options options = {.size = sizeof(options), .routes = setting->routes};
	struct stage stage = {.source = open_source(setting->source)};

	CHECK_EQUAL(fid_pool_new(&stage.pool, &of_pool), 0);
	options.pool = stage.pool;
	small_pair(setting->sink, 0, stage.sink);
	CHECK(fcntl(stage.sink[0], F_SETFL, O_NONBLOCK) == 0);
	CHECK(fcntl(stage.sink[1], F_SETFL, O_NONBLOCK) == 0);
	CHECK_EQUAL(fid_fan_new(&stage.fan, stage.source, &options), 0);
	CHECK_EQUAL(fid_fan_add(stage.fan, stage.sink[1], NULL), 0);
	return stage;
}

static void stage_close(struct stage *stage)
{
	CHECK(fid_fan_free(stage->fan) == NULL);
	CHECK(fid_pool_free(stage->pool) == NULL);
	close(stage->source);
	close(stage->sink[0]);
	close(stage->sink[1]);
}

/* Steps until it waits or ends. */
static int step_on(struct fid_fan *fan)
{
	struct fid_fan_wait wait;
	int result = FID_MORE;

	for (unsigned steps = 0; result == FID_MORE; steps++) {
		if (steps == STEPS_MAX)
			FAIL("%u steps do not come to a wait or an end", steps);
		result = fid_fan_step(fan, &wait);
	}
	return result;
}

static size_t read_all(struct stage *stage)
{
	size_t before = stage->arrived;

	for (;;) {
		ssize_t got = read(stage->sink[0], arrived + stage->arrived,
				   sizeof(arrived) - stage->arrived);

		if (got <= 0)
			return stage->arrived - before;
		stage->arrived += (size_t)got;
	}
}

/* Steps and reads to the end. */
static void finish(struct stage *stage)
{
	int result = FID_WAIT;

	for (unsigned idle = 0; result == FID_WAIT; idle++) {
		if (read_all(stage) > 0)
			idle = 0;
		if (idle == IDLE_STEPS_MAX)
			FAIL("it waits, and the sink has room");
		result = step_on(stage->fan);
	}
	CHECK_EQUAL(result, FID_DONE);
	read_all(stage);
}

static size_t salvage(struct stage *stage, int number, size_t most)
{
	size_t done = 0;

	while (done < most) {
		size_t ask = most - done < 50000 ? most - done : 50000;
		ssize_t got = fid_fan_salvage(stage->fan, number, salvaged + done, ask);

		CHECK(got >= 0);
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return done;
}

/* Everything arrives but what was handed over: two stretches, each where it should be. */
static void go_on(const struct setting *setting)
{
	struct stage stage = stage_open(setting);
	size_t out, in, of_sink, of_window;

	CHECK_EQUAL(step_on(stage.fan), FID_WAIT);
	out = (size_t)fid_fan_sink_receipt(stage.fan, 0)->bytes_out;
	CHECK(out < BYTES);
	of_sink = salvage(&stage, 0, setting->sink_most);
	CHECK(memcmp(salvaged, content + out, of_sink) == 0);
	in = (size_t)fid_fan_receipt(stage.fan)->bytes_out;
	CHECK(in >= out + of_sink);
	of_window = salvage(&stage, -1, setting->window_most);
	CHECK(memcmp(salvaged, content + in, of_window) == 0);
	finish(&stage);
	CHECK_EQUAL(stage.arrived, BYTES - of_sink - of_window);
	CHECK(memcmp(arrived, content, out) == 0);
	CHECK(memcmp(arrived + out, content + out + of_sink, in - out - of_sink) == 0);
	CHECK(memcmp(arrived + in - of_sink, content + in + of_window,
		     BYTES - in - of_window) == 0);
	CHECK_EQUAL(fid_fan_receipt(stage.fan)->bytes_in, BYTES);
	CHECK_EQUAL(fid_fan_receipt(stage.fan)->bytes_salvaged, of_window);
	CHECK_EQUAL(fid_fan_sink_receipt(stage.fan, 0)->bytes_salvaged, of_sink);
	test_note("%s: %zu and %zu bytes were salvaged behind %zu", setting->name, of_sink,
		  of_window, out);
	stage_close(&stage);
}

static void go_on_with(const struct setting *settings, size_t count)
{
	char *descriptors = descriptors_list();

	content_fill(content, sizeof(content), test_seed());
	for (size_t i = 0; i < count; i++) {
		doing("%s", settings[i].name);
		go_on(&settings[i]);
	}
	descriptors_check(descriptors);
}

static void go_on_after_sinks(void *argument)
{
	(void)argument;
	go_on_with(of_sinks, COUNT(of_sinks));
}

TEST(a_fan_goes_on_behind_what_was_salvaged_of_a_sink_that_lives)
{
	test_seed();
	in_child(5, go_on_after_sinks, NULL);
}

static void go_on_after_pipes(void *argument)
{
	(void)argument;
	go_on_with(of_pipes, COUNT(of_pipes));
}

TEST(a_fan_goes_on_behind_what_was_salvaged_of_its_own_pipe)
{
	test_seed();
	in_child(5, go_on_after_pipes, NULL);
}

/* ---- A sink that gets a file next ---- */

enum { SALVAGED = 1000, PIPE = 1 << 20 };

struct reader {
	int fds[2];
	size_t before; /* bytes that were in the pipe already */
	size_t gap;    /* where the salvaged bytes are missing, of those that it was to get */
	size_t missing;
	size_t arrived;
	unsigned char bytes[LARGE + PIPE];
};

static unsigned char large[LARGE];

static void reader_open(struct reader *reader, size_t before)
{
	memset(reader, 0, sizeof(*reader));
	CHECK(pipe2(reader->fds, O_CLOEXEC) == 0);
	CHECK(fcntl(reader->fds[0], F_SETFL, O_NONBLOCK) == 0);
	CHECK(fcntl(reader->fds[1], F_SETPIPE_SZ, PIPE) == PIPE);
	CHECK_EQUAL(write(reader->fds[1], large, before), before);
	reader->before = before;
}

static size_t reader_take(struct reader *reader)
{
	size_t had = reader->arrived;
	ssize_t got;

	while ((got = read(reader->fds[0], reader->bytes + reader->arrived,
			   sizeof(reader->bytes) - reader->arrived)) > 0)
		reader->arrived += (size_t)got;
	return reader->arrived - had;
}

static void reader_check(const struct reader *reader)
{
	const unsigned char *bytes = reader->bytes + reader->before;
	size_t behind = reader->gap + reader->missing;

	CHECK_EQUAL(reader->arrived - reader->before, LARGE - reader->missing);
	CHECK(memcmp(bytes, large, reader->gap) == 0);
	CHECK(memcmp(bytes + reader->gap, large + behind, LARGE - behind) == 0);
}

/* What a sink that has not had the salvaged bytes will miss of them. */
static void note_gap(struct fid_fan *fan, int number, struct reader *reader, size_t from)
{
	size_t had = (size_t)fid_fan_sink_receipt(fan, number)->bytes_in;

	reader->gap = had > from ? had : from;
	reader->missing = reader->gap < from + SALVAGED ? from + SALVAGED - reader->gap : 0;
}

/* Salvages while the second sink, which is almost full, is lent what it cannot take. */
static bool salvage_before_file(size_t before)
{
	struct fid_pool_options of_pool = {.size = sizeof(of_pool), .pipes_max = 1};
	struct fid_fan_options options = {.size = sizeof(options)};
	struct fid_fan_sink_options slow = {.size = sizeof(slow), .on_slow = FID_SLOW_SPILL};
	static struct reader quick, full;
	int source = open_file("source", large, LARGE), result = FID_MORE;
	struct fid_fan *fan;
	bool is_salvaged = false;
	unsigned idle = 0;

	reader_open(&quick, 0);
	reader_open(&full, before);
	slow.spill = open_file("spill", large, 0);
	CHECK_EQUAL(fid_pool_new(&options.pool, &of_pool), 0);
	CHECK_EQUAL(fid_fan_new(&fan, source, &options), 0);
	CHECK_EQUAL(fid_fan_add(fan, quick.fds[1], NULL), 0);
	CHECK_EQUAL(fid_fan_add(fan, full.fds[1], &slow), 1);
	while (result != FID_DONE) {
		bool moved = reader_take(&quick) > 0;

		if (is_salvaged || result == FID_WAIT)
			moved |= reader_take(&full) > 0;
		idle = moved || result == FID_MORE ? 0 : idle + 1;
		if (idle == IDLE_STEPS_MAX)
			FAIL("it waits, and the sinks have room");
		result = fid_fan_step(fan, NULL);
		CHECK(result >= 0);
		if (is_salvaged || result != FID_MORE ||
		    fid_fan_sink_receipt(fan, 1)->bytes_held == 0)
			continue;
		if (fid_fan_receipt(fan)->bytes_held >= SALVAGED) {
			size_t from = (size_t)fid_fan_receipt(fan)->bytes_out;

			note_gap(fan, 0, &quick, from);
			note_gap(fan, 1, &full, from);
			CHECK_EQUAL(fid_fan_salvage(fan, -1, salvaged, SALVAGED), SALVAGED);
			CHECK(memcmp(salvaged, large + from, SALVAGED) == 0);
			is_salvaged = true;
			result = fid_fan_step(fan, NULL);
			CHECK(result >= 0);
		}
	}
	reader_take(&quick);
	reader_take(&full);
	reader_check(&quick);
	reader_check(&full);
	fid_fan_free(fan);
	fid_pool_free(options.pool);
	close(source);
	close(slow.spill);
	for (int i = 0; i < 2; i++) {
		close(quick.fds[i]);
		close(full.fds[i]);
	}
	return is_salvaged;
}

static void salvage_before_files(void *argument)
{
	unsigned count = 0;

	(void)argument;
	content_fill(large, sizeof(large), test_seed());
	/* So that the fan copies from a pipe of its own. */
	deny(&(int){SYS_tee}, 1, EPERM);
	for (size_t before = 20000; before < 260000; before += 30000) {
		doing("salvage before a file begins, %zu bytes in the pipe", before);
		count += salvage_before_file(before);
	}
	CHECK(count > 0);
}

TEST(a_fan_goes_on_behind_what_was_salvaged_just_before_a_file_begins)
{
	test_seed();
	in_child(10, salvage_before_files, NULL);
}

/* ---- A source that is not the fan's alone ---- */

/*
 * Two sinks are ahead of a third one, which dies, so that what it had not is only to be thrown
 * away; but somebody else has taken it.
 */
static void source_is_stolen(void *argument)
{
	static unsigned char full[1 << 16];
	int source[2], sinks[3][2];
	struct fid_fan *fan;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	CHECK(pipe2(source, O_CLOEXEC) == 0);
	CHECK_EQUAL(write(source[1], content, 30000), 30000);
	close(source[1]);
	CHECK_EQUAL(fid_fan_new(&fan, source[0], NULL), 0);
	for (int i = 0; i < 3; i++) {
		CHECK(pipe2(sinks[i], O_CLOEXEC) == 0);
		CHECK_EQUAL(fid_fan_add(fan, sinks[i][1], NULL), i);
	}
	CHECK(fcntl(sinks[2][1], F_SETFL, O_NONBLOCK) == 0);
	CHECK_EQUAL(write(sinks[2][1], full, sizeof(full)), sizeof(full));
	CHECK_EQUAL(step_on(fan), FID_WAIT);
	for (int i = 0; i < 3; i++)
		CHECK_EQUAL(fid_fan_sink_receipt(fan, i)->bytes_out, i < 2 ? 30000 : 0);
	doing("an end after the theft");
	CHECK_EQUAL(read(source[0], full, sizeof(full)), 30000);
	close(sinks[2][0]);
	CHECK_EQUAL(step_on(fan), -EIO);
	CHECK_EQUAL(fid_fan_receipt(fan)->error, -EIO);
	CHECK_EQUAL(fid_fan_receipt(fan)->error_side, FID_SIDE_SOURCE);
	for (int i = 0; i < 2; i++) {
		const struct fid_receipt *receipt = fid_fan_sink_receipt(fan, i);

		receipt_check(receipt);
		CHECK_EQUAL(receipt->bytes_out, 30000);
		CHECK_EQUAL(receipt->error, 0);
		CHECK_EQUAL(read(sinks[i][0], arrived, sizeof(arrived)), 30000);
		CHECK(memcmp(arrived, content, 30000) == 0);
	}
	CHECK(fid_fan_free(fan) == NULL);
}

TEST(a_fan_whose_source_is_read_by_somebody_else_ends_with_eio)
{
	test_seed();
	in_child(5, source_is_stolen, NULL);
}
