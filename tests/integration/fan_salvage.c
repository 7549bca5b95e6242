/* SPDX-License-Identifier: MIT */
/*
 * Fans that are salvaged in the middle and go on, and fans whose source somebody else reads.
 * The test is the only one at the far ends, and never waits: what happens is always the same.
 */
#include "ends.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { BYTES = 400000, STEPS_MAX = 10000, IDLE_STEPS_MAX = 20 };

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

static int open_source(enum end_kind kind)
{
	int ends[2], fd;

	if (kind == END_PIPE) {
		CHECK(pipe2(ends, O_CLOEXEC) == 0);
		CHECK(fcntl(ends[1], F_SETPIPE_SZ, 1 << 20) == 1 << 20);
		CHECK_EQUAL(write(ends[1], content, BYTES), BYTES);
		close(ends[1]);
		return ends[0];
	}
	fd = open(scratch("source"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK_EQUAL(write(fd, content, BYTES), BYTES);
	CHECK_EQUAL(lseek(fd, 0, SEEK_SET), 0);
	return fd;
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
