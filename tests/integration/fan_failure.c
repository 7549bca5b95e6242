/* SPDX-License-Identifier: MIT */
/*
 * Fans in which somebody goes away, or something is refused: a sink ends alone with an exact
 * account, the others go on, and what nobody got comes back.
 */
#include "crowd.h"
#include "deny.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = (1 << 20) + 4321, NOBODY = 65534 };

static unsigned char content[BYTES];

static const enum end_kind sources[] = {END_PIPE, END_VMSPLICED, END_FILE, END_TCP, END_UNIX};
static const enum end_kind broken_kinds[] = {END_PIPE, END_TCP, END_UNIX};

enum {
	SOURCES = sizeof(sources) / sizeof(sources[0]),
	BROKEN_KINDS = sizeof(broken_kinds) / sizeof(broken_kinds[0]),
};

/*
 * For a pipe that takes some of the source, but never all: its slots hold a byte as well as the
 * 32 KiB of a socket's buffer.
 */
static int room_for(enum end_kind source)
{
	if (source == END_VMSPLICED)
		return 1 << 20;
	return source == END_TCP || source == END_UNIX ? 0 : 256 << 10;
}

static void read_exactly(int fd, size_t count)
{
	unsigned char buffer[4096];

	for (size_t done = 0; done < count;) {
		size_t want = count - done < sizeof(buffer) ? count - done : sizeof(buffer);
		ssize_t got = read(fd, buffer, want);

		CHECK(got > 0);
		CHECK(memcmp(buffer, content + done, (size_t)got) == 0);
		done += (size_t)got;
	}
}

/*
 * Goes on until the sink, member 0, has some bytes; its reader takes a part of them and goes.
 * Returns how many bytes it took or could have taken.
 */
static size_t break_sink(struct crowd *crowd, int far, size_t after)
{
	int left = 0;

	while (fid_fan_sink_receipt(crowd->fan, 0)->bytes_out <= after)
		CHECK(crowd_step(crowd) > 0);
	read_exactly(far, after);
	CHECK(ioctl(far, FIONREAD, &left) == 0);
	close(far);
	return after + (size_t)left;
}

static void check_broken(struct crowd *crowd, enum end_kind kind, size_t could)
{
	const struct fid_receipt *receipt = fid_fan_sink_receipt(crowd->fan, 0);

	if (receipt->error != -EPIPE && (receipt->error != -ECONNRESET || kind == END_PIPE))
		FAIL("the sink ended with %s", fid_error_name(receipt->error));
	CHECK_EQUAL(receipt->error_side, FID_SIDE_SINK);
	CHECK(receipt->error_call != FID_CALL_NONE);
	if (kind == END_PIPE)
		CHECK_EQUAL(receipt->bytes_out, could);
	else
		CHECK(receipt->bytes_out >= could);
	crowd_salvage(crowd, 0);
}

static void reader_goes(void *argument)
{
	static const size_t after[] = {0, 1, 20000};
	unsigned held = 0;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (unsigned i = 0; i < 3 * SOURCES * BROKEN_KINDS; i++) {
		enum end_kind kind = broken_kinds[i / 3 % BROKEN_KINDS];
		enum end_kind source = sources[i / 3 / BROKEN_KINDS];
		char *descriptors = descriptors_list();
		struct fid_fan_options options = {.size = sizeof(options)};
		struct crowd crowd;
		size_t could;
		int fds[2];

		doing("source %d, a %s whose reader goes after %zu bytes", (int)source,
		      end_name(kind), after[i % 3]);
		CHECK_EQUAL(fid_pool_new(&options.pool, NULL), 0);
		crowd_open(&crowd, source, content, BYTES, &options);
		small_pair(kind, room_for(source), fds);
		crowd_add_fd(&crowd, fds[1], NULL);
		crowd_add(&crowd, END_PIPE, 0, true, NULL);
		crowd_add(&crowd, END_TCP, 0, true, NULL);
		crowd_add(&crowd, END_FILE, 0, false, NULL);
		crowd_add(&crowd, END_PIPE, 4096, false, NULL);
		/* SIGPIPE has its default action here and would end this process. */
		could = break_sink(&crowd, fds[0], after[i % 3]);
		CHECK_EQUAL(crowd_drive(&crowd, (enum drive)(i % DRIVES)), 0);
		for (int k = 1; k < 5; k++)
			crowd_check_complete(&crowd, k, BYTES);
		held += fid_fan_sink_receipt(crowd.fan, 0)->bytes_held > 0;
		check_broken(&crowd, kind, could);
		CHECK_EQUAL(fid_fan_receipt(crowd.fan)->error, 0);
		CHECK_EQUAL(fid_fan_receipt(crowd.fan)->bytes_out, BYTES);
		crowd_close(&crowd);
		close(fds[1]);
		CHECK(fid_pool_free(options.pool) == NULL);
		descriptors_check(descriptors);
	}
	test_note("bytes were held for a sink that broke %u times", held);
}

TEST(a_sink_whose_reader_goes_ends_alone_with_an_exact_receipt)
{
	test_seed();
	in_child(10, reader_goes, NULL);
}

/* With FID_FAN_STOP, or when it was the last one, the fan ends with it. */
static void fan_stops(void *argument)
{
	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (unsigned i = 0; i < 2 * SOURCES * BROKEN_KINDS; i++) {
		enum end_kind kind = broken_kinds[i / 2 % BROKEN_KINDS];
		enum end_kind source = sources[i / 2 / BROKEN_KINDS];
		bool alone = i & 1;
		struct fid_fan_options options = {.size = sizeof(options),
						  .flags = alone ? 0 : FID_FAN_STOP};
		const struct fid_receipt *receipt;
		struct crowd crowd;
		size_t could, taken, left;
		int fds[2], got;

		doing("source %d, a %s that breaks%s", (int)source, end_name(kind),
		      alone ? ", the only one" : " and stops the fan");
		crowd_open(&crowd, source, content, BYTES, &options);
		small_pair(kind, room_for(source), fds);
		crowd_add_fd(&crowd, fds[1], NULL);
		if (!alone) {
			crowd_add(&crowd, END_PIPE, 0, true, NULL);
			crowd_add(&crowd, END_FILE, 0, false, NULL);
		}
		could = break_sink(&crowd, fds[0], 5000);
		got = crowd_drive(&crowd, (enum drive)(i / 2 % DRIVES));
		receipt = fid_fan_sink_receipt(crowd.fan, 0);
		CHECK_EQUAL(got, receipt->error);
		CHECK_EQUAL(fid_fan_receipt(crowd.fan)->error, got);
		CHECK_EQUAL(fid_fan_receipt(crowd.fan)->error_side, FID_SIDE_SINK);
		CHECK_EQUAL(fid_fan_run(crowd.fan, -1), got);
		check_broken(&crowd, kind, could);
		/* Nothing that was taken is lost, and the source has what comes after. */
		taken = (size_t)fid_fan_receipt(crowd.fan)->bytes_in;
		if (!alone) {
			for (int k = 1; k < 3; k++)
				crowd_salvage(&crowd, k);
			crowd_salvage(&crowd, -1);
		}
		left = end_leftover(&crowd.source, content + taken, BYTES - taken);
		CHECK_EQUAL(taken + left, BYTES);
		crowd_close(&crowd);
		close(fds[1]);
	}
}

TEST(a_fan_ends_when_its_last_sink_fails_or_when_one_must_not)
{
	test_seed();
	in_child(8, fan_stops, NULL);
}

/* A sink that had nothing to take when it broke: the step that sees it is the last. */
TEST(a_step_that_sees_an_idle_sink_break_ends_a_fan_that_must_stop)
{
	struct fid_fan_options options = {.size = sizeof(options), .flags = FID_FAN_STOP};
	int source[2], broken[2], other[2];
	struct fid_fan *fan;

	small_pair(END_PIPE, 4096, source);
	small_pair(END_PIPE, 4096, broken);
	small_pair(END_PIPE, 4096, other);
	CHECK_EQUAL(fid_fan_new(&fan, source[0], &options), 0);
	CHECK_EQUAL(fid_fan_add(fan, broken[1], NULL), 0);
	CHECK_EQUAL(fid_fan_add(fan, other[1], NULL), 1);
	CHECK_EQUAL(fid_fan_step(fan, NULL), FID_WAIT);
	close(broken[0]);
	CHECK_EQUAL(fid_fan_step(fan, NULL), -EPIPE);
	CHECK_EQUAL(fid_fan_receipt(fan)->error, -EPIPE);
	CHECK_EQUAL(fid_fan_receipt(fan)->error_side, FID_SIDE_SINK);
	CHECK_EQUAL(fid_fan_sink_receipt(fan, 0)->error, -EPIPE);
	CHECK_EQUAL(fid_fan_sink_receipt(fan, 1)->error, 0);
	fid_fan_free(fan);
	for (int i = 0; i < 2; i++)
		close(source[i]);
	close(broken[1]);
	for (int i = 0; i < 2; i++)
		close(other[i]);
}

/*
 * The sink that was behind the others is gone: what they have had is thrown away, and not a
 * byte more, although the source has it.
 */
static void last_one_dies(void *argument)
{
	enum { FILLED = 900000 };
	static const uint32_t routes[] = {0, FID_ROUTE(FID_READ_WRITE)};

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (unsigned i = 0; i < 2; i++) {
		struct fid_fan_options options = {.size = sizeof(options), .routes = routes[i]};
		struct peer peer = PEER_NONE;
		int source[2], behind[2], ahead[2];
		struct fid_fan *fan;

		doing("a sink dies that all were waiting for%s", i ? ", copying" : "");
		small_pair(END_PIPE, 1 << 20, source);
		small_pair(END_PIPE, 4096, behind);
		small_pair(END_PIPE, 65536, ahead);
		CHECK_EQUAL(write(source[1], content, FILLED), FILLED);
		close(source[1]);
		CHECK_EQUAL(fid_fan_new(&fan, source[0], &options), 0);
		CHECK_EQUAL(fid_fan_add(fan, behind[1], NULL), 0);
		CHECK_EQUAL(fid_fan_add(fan, ahead[1], NULL), 1);
		do
			CHECK_EQUAL(fid_fan_run(fan, 10), -ETIMEDOUT);
		while (fid_fan_sink_receipt(fan, 1)->bytes_out < 65536);
		CHECK_EQUAL(fid_fan_sink_receipt(fan, 0)->bytes_out, 4096);
		CHECK_EQUAL(fid_fan_sink_receipt(fan, 1)->bytes_out, 65536);
		close(behind[0]);
		do
			CHECK_EQUAL(fid_fan_run(fan, 10), -ETIMEDOUT);
		while (fid_fan_sink_receipt(fan, 0)->error == 0);
		CHECK_EQUAL(fid_fan_sink_receipt(fan, 0)->error, -EPIPE);
		CHECK_EQUAL(fid_fan_sink_receipt(fan, 0)->bytes_out, 4096);
		peer_drain(&peer, ahead[0], content, FILLED, false);
		CHECK_EQUAL(fid_fan_run(fan, -1), 0);
		CHECK_EQUAL(fid_fan_sink_receipt(fan, 1)->bytes_out, FILLED);
		CHECK(fid_fan_free(fan) == NULL);
		close(source[0]);
		close(behind[1]);
		close(ahead[1]);
		peer_join(&peer);
		CHECK(peer.wrong_at == SIZE_MAX);
		CHECK_EQUAL(peer.drained, FILLED);
	}
}

TEST(no_byte_is_thrown_away_with_the_sink_that_others_waited_for)
{
	test_seed();
	in_child(5, last_one_dies, NULL);
}

/* ---- The source ---- */

static void source_is_reset(void *argument)
{
	struct linger at_once = {.l_onoff = 1};

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (unsigned i = 0; i < 2 * DRIVES; i++) {
		struct fid_fan_options options = {.size = sizeof(options),
						  .routes = i & 1 ? FID_ROUTE(FID_READ_WRITE)
								  : 0};
		enum end_kind kinds[] = {END_PIPE, END_TCP, END_UNIX, END_FILE};
		struct end sinks[4];
		struct fid_fan *fan;
		int fds[2], got;

		doing("a source that is reset, %s", drive_name((enum drive)(i / 2)));
		tcp_pair(fds);
		CHECK_EQUAL(fid_fan_new(&fan, fds[0], &options), 0);
		for (int k = 0; k < 4; k++) {
			end_open_sink(&sinks[k], kinds[k], content, BYTES, true);
			CHECK_EQUAL(fid_fan_add(fan, sinks[k].fd, NULL), k);
		}
		CHECK_EQUAL(write(fds[1], content, 50000), 50000);
		while (fid_fan_receipt(fan)->bytes_in < 50000)
			CHECK_EQUAL(fid_fan_run(fan, 5), -ETIMEDOUT);
		CHECK(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) ==
		      0);
		close(fds[1]);
		if (i / 2 == DRIVE_RUN)
			got = fid_fan_run(fan, -1);
		else if (i / 2 == DRIVE_SLICES)
			while ((got = fid_fan_run(fan, 2)) == -ETIMEDOUT)
				;
		else
			while ((got = fid_fan_step(fan, NULL)) > 0)
				;
		CHECK_EQUAL(got, -ECONNRESET);
		CHECK_EQUAL(fid_fan_receipt(fan)->error, -ECONNRESET);
		CHECK_EQUAL(fid_fan_receipt(fan)->error_side, FID_SIDE_SOURCE);
		CHECK_EQUAL(fid_fan_receipt(fan)->bytes_in, 50000);
		/* All that came before was given to all. */
		for (int k = 0; k < 4; k++) {
			receipt_check(fid_fan_sink_receipt(fan, k));
			CHECK_EQUAL(fid_fan_sink_receipt(fan, k)->bytes_out, 50000);
		}
		CHECK(fid_fan_free(fan) == NULL);
		for (int k = 0; k < 4; k++)
			CHECK_EQUAL(end_close_sink(&sinks[k], content, BYTES, 50000), 50000);
		close(fds[0]);
	}
}

TEST(sinks_get_all_that_came_before_the_source_failed)
{
	test_seed();
	in_child(5, source_is_reset, NULL);
}

/* A fan that is left in the middle: each sink's bytes, salvage and source make the whole. */
static void left_in_the_middle(void *argument)
{
	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (unsigned i = 0; i < 4 * SOURCES; i++) {
		char *descriptors = descriptors_list();
		struct fid_fan_options options = {.size = sizeof(options),
						  .routes = i & 1 ? FID_ROUTE(FID_READ_WRITE)
								  : 0};
		struct crowd crowd;
		uint64_t out[BROKEN_KINDS];
		int fds[BROKEN_KINDS][2];
		size_t taken, left;

		doing("a fan from source %d that is left in the middle%s",
		      (int)sources[i % SOURCES], i & 1 ? ", copying" : "");
		CHECK_EQUAL(fid_pool_new(&options.pool, NULL), 0);
		crowd_open(&crowd, sources[i % SOURCES], content, BYTES, &options);
		/* Nobody reads, so that all of them are full at different places. */
		for (unsigned k = 0; k < BROKEN_KINDS; k++) {
			stream_pair(broken_kinds[k], fds[k]);
			crowd_add_fd(&crowd, fds[k][1], NULL);
		}
		do
			CHECK_EQUAL(fid_fan_run(crowd.fan, 30), -ETIMEDOUT);
		while (fid_fan_receipt(crowd.fan)->bytes_in == 0);
		crowd_check(&crowd);
		taken = (size_t)fid_fan_receipt(crowd.fan)->bytes_in;
		for (unsigned k = 0; k < BROKEN_KINDS; k++) {
			out[k] = fid_fan_sink_receipt(crowd.fan, (int)k)->bytes_out;
			/* What it has not had itself is held by the fan. */
			CHECK(out[k] + crowd_salvage(&crowd, (int)k) >=
			      fid_fan_receipt(crowd.fan)->bytes_out);
		}
		crowd_salvage(&crowd, -1);
		left = end_leftover(&crowd.source, content + taken, BYTES - taken);
		CHECK_EQUAL(taken + left, BYTES);
		crowd_close(&crowd);
		for (unsigned k = 0; k < BROKEN_KINDS; k++) {
			struct peer peer = PEER_NONE;

			close(fds[k][1]);
			peer_drain(&peer, fds[k][0], content, BYTES, false);
			peer_join(&peer);
			CHECK(peer.wrong_at == SIZE_MAX);
			CHECK_EQUAL(peer.drained, out[k]);
		}
		CHECK(fid_pool_free(options.pool) == NULL);
		descriptors_check(descriptors);
	}
}

TEST(a_fan_that_is_left_in_the_middle_gives_back_what_it_holds)
{
	test_seed();
	in_child(8, left_in_the_middle, NULL);
}

/* ---- Sandboxes and budgets ---- */

static void give_everything(enum end_kind source, enum drive drive, uint32_t flags)
{
	struct fid_fan_options options = {.size = sizeof(options), .flags = flags};
	struct crowd crowd;

	crowd_open(&crowd, source, content, BYTES, &options);
	crowd_add(&crowd, END_PIPE, 0, true, NULL);
	crowd_add(&crowd, END_PIPE, 4096, false, NULL);
	crowd_add(&crowd, END_TCP, 0, true, NULL);
	crowd_add(&crowd, END_UNIX, 0, false, NULL);
	crowd_add(&crowd, END_FILE, 0, false, NULL);
	crowd_add(&crowd, END_APPEND, 0, false, NULL);
	CHECK_EQUAL(crowd_drive(&crowd, drive), 0);
	for (int k = 0; k < 6; k++)
		crowd_check_complete(&crowd, k, BYTES);
	crowd_close(&crowd);
}

struct sandbox {
	int calls[3];
	size_t count;
	int error;
	bool refuses_pipes;
};

static void fan_in_sandbox(void *argument)
{
	const struct sandbox *sandbox = argument;
	struct crowd crowd;
	int fds[2];

	content_fill(content, sizeof(content), test_seed());
	/* One fan is half done when the calls go away. */
	doing("a fan in the middle when %zu calls become %s", sandbox->count,
	      fid_error_name(sandbox->error));
	crowd_open(&crowd, END_PIPE, content, BYTES, NULL);
	crowd_add(&crowd, END_PIPE, 4096, true, NULL);
	small_pair(END_PIPE, 1 << 20, fds);
	crowd_add_fd(&crowd, fds[1], NULL);
	crowd_add(&crowd, END_TCP, 0, true, NULL);
	while (fid_fan_receipt(crowd.fan)->bytes_in < 50000)
		CHECK(crowd_step(&crowd) > 0);
	deny(sandbox->calls, sandbox->count, sandbox->error);
	peer_drain(&crowd.member[1].end.peer, fds[0], content, BYTES, false);
	CHECK_EQUAL(crowd_drive(&crowd, DRIVE_STEP), 0);
	for (int k = 0; k < 3; k++)
		crowd_check_complete(&crowd, k, BYTES);
	crowd_close(&crowd);
	close(fds[1]);
	peer_join(&crowd.member[1].end.peer);
	CHECK(crowd.member[1].end.peer.wrong_at == SIZE_MAX);
	CHECK_EQUAL(crowd.member[1].end.peer.drained, BYTES);
	for (unsigned i = 0; i < 2 * SOURCES; i++) {
		/* This source is made with the call, and the others can do without. */
		if (sources[i % SOURCES] == END_VMSPLICED && sandbox->refuses_pipes)
			continue;
		doing("source %d where %zu calls are %s", (int)sources[i % SOURCES],
		      sandbox->count, fid_error_name(sandbox->error));
		give_everything(sources[i % SOURCES], (enum drive)(i % DRIVES),
				i & 1 ? FID_STABLE : 0);
	}
}

TEST(every_sink_gets_everything_where_tee_or_splice_is_refused)
{
	static const struct sandbox sandboxes[] = {
		{{SYS_tee}, 1, EPERM},
		{{SYS_splice}, 1, ENOSYS},
		{{SYS_tee, SYS_splice}, 2, EPERM},
		{{SYS_tee, SYS_splice}, 2, ENOSYS},
		{{SYS_pipe2}, 1, EPERM, true},
		{{SYS_tee, SYS_splice, SYS_pipe2}, 3, EOPNOTSUPP, true},
	};

	test_seed();
	for (size_t i = 0; i < sizeof(sandboxes) / sizeof(sandboxes[0]); i++) {
		struct sandbox sandbox = sandboxes[i];

		in_child(5, fan_in_sandbox, &sandbox);
	}
}

enum { PIPES_WANTED = 3000 };

static int hoard[PIPES_WANTED][2];

static void pipe_budget(void *argument)
{
	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	if (geteuid() != 0)
		SKIP("it needs root, to become a user without pipes of its own");
	if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
		SKIP("this root may not become another user: %s", strerror(errno));
	if (pipes_exhaust(hoard, PIPES_WANTED) == 0)
		SKIP("the user's budget of pipe pages has no end here");
	for (unsigned i = 0; i < SOURCES; i++) {
		/* Nobody's scratch files are on tmpfs, which everybody may write to. */
		struct crowd crowd;

		if (sources[i] == END_FILE)
			continue;
		doing("source %d without a budget for pipes", (int)sources[i]);
		crowd_open(&crowd, sources[i], content, BYTES, NULL);
		crowd_add(&crowd, END_PIPE, 0, true, NULL);
		crowd_add(&crowd, END_TCP, 0, true, NULL);
		crowd_add(&crowd, END_UNIX, 0, false, NULL);
		crowd_add(&crowd, END_MEMFD, 0, false, NULL);
		CHECK_EQUAL(crowd_drive(&crowd, (enum drive)(i % DRIVES)), 0);
		for (int k = 0; k < 4; k++)
			crowd_check_complete(&crowd, k, BYTES);
		crowd_close(&crowd);
	}
}

TEST(every_sink_gets_everything_past_the_budget_of_pipes)
{
	test_seed();
	in_child(5, pipe_budget, NULL);
}

static void no_descriptor(void *argument)
{
	static const enum end_kind kinds[] = {END_MEMFD, END_PIPE, END_TCP};

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (unsigned i = 0; i < 3; i++) {
		struct rlimit before, limit;
		struct crowd crowd;

		doing("%s without a free descriptor", end_name(kinds[i]));
		crowd_open(&crowd, kinds[i], content, BYTES, NULL);
		crowd_add(&crowd, END_PIPE, 0, true, NULL);
		crowd_add(&crowd, END_TCP, 0, true, NULL);
		crowd_add(&crowd, END_MEMFD, 0, false, NULL);
		CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
		limit = before;
		limit.rlim_cur = 3;
		CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
		CHECK_EQUAL(crowd_drive(&crowd, DRIVE_RUN), 0);
		CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
		for (int k = 0; k < 3; k++)
			crowd_check_complete(&crowd, k, BYTES);
		crowd_close(&crowd);
	}
}

TEST(every_sink_gets_everything_without_a_free_descriptor)
{
	test_seed();
	in_child(5, no_descriptor, NULL);
}

/* ---- Signals ---- */

static volatile sig_atomic_t signals_seen;

static void count_signal(int number)
{
	(void)number;
	signals_seen = signals_seen + 1;
}

static void signal_storm(void *argument)
{
	struct itimerspec often = {.it_interval.tv_nsec = 300000, .it_value.tv_nsec = 300000};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct sigaction action = {.sa_handler = count_signal};
	unsigned interrupted = 0;
	sigset_t storm;
	timer_t timer;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	sigemptyset(&storm);
	sigaddset(&storm, SIGUSR1);
	CHECK(pthread_sigmask(SIG_BLOCK, &storm, NULL) == 0);
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &often, NULL) == 0);
	for (unsigned i = 0; i < 2 * SOURCES; i++) {
		struct fid_fan_options options = {.size = sizeof(options),
						  .flags = i & 1 ? FID_INTERRUPTIBLE : 0};
		struct crowd crowd;
		int got;

		doing("source %d with signals, %s", (int)sources[i / 2],
		      i & 1 ? "FID_INTERRUPTIBLE" : "repeated");
		crowd_open(&crowd, sources[i / 2], content, BYTES, &options);
		for (int k = 0; k < 6; k++)
			crowd_add_any(&crowd);
		/* The storm is for fid and not for the calls of this test. */
		do {
			pthread_sigmask(SIG_UNBLOCK, &storm, NULL);
			got = fid_fan_run(crowd.fan, -1);
			pthread_sigmask(SIG_BLOCK, &storm, NULL);
			CHECK(got == 0 || (got == -EINTR && (i & 1)));
			crowd_check(&crowd);
			interrupted += got == -EINTR;
		} while (got);
		for (int k = 0; k < 6; k++)
			crowd_check_complete(&crowd, k, BYTES);
		crowd_close(&crowd);
	}
	timer_delete(timer);
	test_note("%d signals, -EINTR was returned %u times", (int)signals_seen, interrupted);
}

TEST(signals_lose_no_byte_of_a_fan)
{
	test_seed();
	in_child(10, signal_storm, NULL);
}
