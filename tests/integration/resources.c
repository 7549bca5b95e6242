/* SPDX-License-Identifier: MIT */
/*
 * What runs out and who goes away: the sink is full, a peer dies, a budget is gone, signals
 * storm. Every byte is accounted for, nothing stays open, and no signal leaks out.
 */
#include "ends.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 1 << 20, NOBODY = 65534 };

static unsigned char content[BYTES];

/* Every way alone, and all together. */
static const uint32_t routes[] = {
	0,
	FID_ROUTE(FID_COPY_FILE_RANGE),
	FID_ROUTE(FID_SENDFILE),
	FID_ROUTE(FID_SPLICE),
	FID_ROUTE(FID_SPLICE_PIPE),
	FID_ROUTE(FID_READ_WRITE),
};

enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

static const char *route_name(uint32_t set)
{
	for (unsigned method = 0; method < FID_METHODS; method++)
		if (set == FID_ROUTE(method))
			return fid_method_name((enum fid_method)method);
	return "any way";
}

/* Salvages all that is held and compares it with what comes after the delivered bytes. */
static size_t salvage(struct fid_flow *flow)
{
	const struct fid_receipt *receipt = fid_flow_receipt(flow);
	size_t held = (size_t)receipt->bytes_held;
	uint64_t delivered = receipt->bytes_out;
	unsigned char *buffer = malloc(held + 1);
	size_t done = 0;
	ssize_t piece;

	receipt_check(receipt);
	while ((piece = fid_flow_salvage(flow, buffer + done, held + 1 - done)) > 0)
		done += (size_t)piece;
	CHECK_EQUAL(piece, 0);
	CHECK_EQUAL(done, held);
	CHECK(memcmp(buffer, content + delivered, held) == 0);
	free(buffer);
	receipt_check(fid_flow_receipt(flow));
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_held, 0);
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_salvaged, held);
	return done;
}

/* Salvaged bytes and what the source still has continue what was delivered, with no gap. */
static void settle(struct fid_flow *flow, struct end *source)
{
	uint64_t taken;
	size_t left;

	salvage(flow);
	taken = fid_flow_receipt(flow)->bytes_in;
	left = end_leftover(source, content + taken, BYTES - (size_t)taken);
	CHECK_EQUAL(taken + left, BYTES);
}

static struct fid_flow *flow_of(int source, int sink, uint32_t set, uint32_t flags,
				struct fid_pool *pool)
{
	struct fid_options options = {
		.size = sizeof(options), .routes = set, .flags = flags, .pool = pool};
	struct fid_flow *flow = NULL;
	int got = fid_flow_new(&flow, source, sink, &options, NULL);

	if (got == -EOPNOTSUPP && set)
		return NULL;
	CHECK_EQUAL(got, 0);
	return flow;
}

/* ---- The sink is full ---- */

static const enum end_kind full_sources[] = {END_FILE, END_TMPFS, END_MEMFD,
					     END_PIPE, END_TCP,   END_UNIX};

enum { FULL_SOURCES = sizeof(full_sources) / sizeof(full_sources[0]) };

static void limit_files(rlim_t bytes)
{
	struct rlimit limit;

	CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
	limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

/*
 * The file at path takes room bytes and not one more; error says so. With EFBIG that is a limit
 * of this process, which is set for the flow alone since it is one for the sources, too.
 */
static void fill_up(const char *given_path, size_t room, int error)
{
	char *path = strdup(given_path);
	char *descriptors = descriptors_list();
	unsigned flows = 0;

	for (size_t i = 0; i < FULL_SOURCES; i++)
		for (size_t r = 0; r < ROUTES; r++) {
			struct fid_pool *pool;
			struct fid_flow *flow;
			struct end source;
			struct stat stat;
			int sink;

			doing("%s to a sink with room for %zu bytes by %s",
			      end_name(full_sources[i]), room, route_name(routes[r]));
			CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
			end_open_source(&source, full_sources[i], content, BYTES, true);
			sink = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
			CHECK(sink >= 0);
			flow = flow_of(source.fd, sink, routes[r], 0, pool);
			if (flow) {
				const struct fid_receipt *receipt = fid_flow_receipt(flow);
				unsigned char *written = malloc(BYTES);
				int got;

				if (error == -EFBIG)
					limit_files(room);
				got = fid_flow_run(flow, -1);
				if (error == -EFBIG)
					limit_files(RLIM_INFINITY);
				receipt = fid_flow_receipt(flow);
				/* A forced way may be refused before it begins. */
				if (routes[r] && receipt->bytes_in == 0 && got != error) {
					if (got != -EXDEV && got != -EINVAL &&
					    got != -EOPNOTSUPP)
						FAIL("%s", fid_error_name(got));
				} else {
					CHECK_EQUAL(got, error);
					CHECK_EQUAL(receipt->error_side, FID_SIDE_SINK);
					CHECK(receipt->error_call != FID_CALL_NONE);
					CHECK_EQUAL(receipt->bytes_out, room);
					flows++;
				}
				CHECK(fstat(sink, &stat) == 0);
				CHECK_EQUAL(stat.st_size, receipt->bytes_out);
				CHECK_EQUAL(pread(sink, written, BYTES, 0), receipt->bytes_out);
				CHECK(memcmp(written, content, receipt->bytes_out) == 0);
				free(written);
				settle(flow, &source);
				CHECK(fid_flow_free(flow) == NULL);
			}
			end_close_source(&source);
			close(sink);
			CHECK(unlink(path) == 0);
			CHECK(fid_pool_free(pool) == NULL);
		}
	descriptors_check(descriptors);
	free(path);
	CHECK(flows >= 2 * FULL_SOURCES);
	test_note("%u flows into a sink with room for %zu bytes: %s", flows, room,
		  fid_error_name(error));
}

static void file_size_limit(void *argument)
{
	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	signal(SIGXFSZ, SIG_IGN);
	fill_up(scratch("limited"), 200000, -EFBIG);
	fill_up(scratch_shm("limited"), 123456, -EFBIG);
}

TEST(a_file_at_its_size_limit_is_efbig_at_the_sink_and_nothing_is_lost)
{
	test_seed();
	in_child(10, file_size_limit, NULL);
}

static void limit_for_memory(void *argument)
{
	struct fid_memory_options options = {.size = sizeof(options), .mode = FID_MEMORY_CONST};
	struct rlimit limit = {1, 1};
	struct fid_memory *memory = NULL;
	struct fid_facts facts;
	int both[2];

	(void)argument;
	CHECK(signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	CHECK_EQUAL(fid_probe(&facts, 1), 0);
	CHECK_EQUAL(facts.splice, 0);
	CHECK_EQUAL(facts.memory_seal, -EFBIG);
	CHECK(pipe(both) == 0);
	CHECK_EQUAL(fid_memory_new(&memory, both[1], &options), -EFBIG);
	CHECK(memory == NULL);
}

TEST(a_limit_on_files_ends_no_program_that_asks_what_there_is)
{
	in_child(10, limit_for_memory, NULL);
}

static void small_file_system(void *argument)
{
	char path[700];

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	snprintf(path, sizeof(path), "%s/sink", scratch_small(262144));
	fill_up(path, 262144, -ENOSPC);
}

TEST(a_full_file_system_is_enospc_at_the_sink_and_nothing_is_lost)
{
	test_seed();
	in_child(10, small_file_system, NULL);
}

/* ---- A peer goes away ---- */

/* Reads so many bytes and then goes, with a reset where the kind has one. */
struct quitter {
	pthread_t thread;
	int fd;
	size_t after;
	size_t got;
	bool right;
};

static void reset(int fd)
{
	struct linger at_once = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(fd);
}

static void *read_and_quit(void *argument)
{
	struct quitter *quitter = argument;
	unsigned char buffer[8192];
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	quitter->right = true;
	while (quitter->got < quitter->after) {
		size_t want = quitter->after - quitter->got;
		ssize_t got = read(quitter->fd, buffer, want < 8192 ? want : 8192);

		if (got <= 0)
			break;
		quitter->right &= memcmp(buffer, content + quitter->got, (size_t)got) == 0;
		quitter->got += (size_t)got;
	}
	reset(quitter->fd);
	return NULL;
}

/* The sink for the flow; the quitter is at the other end. */
static int sink_with_quitter(enum end_kind kind, size_t after, struct quitter *quitter)
{
	int fds[2];

	stream_pair(kind, fds);
	*quitter = (struct quitter){.fd = fds[0], .after = after};
	CHECK(pthread_create(&quitter->thread, NULL, read_and_quit, quitter) == 0);
	return fds[1];
}

static void sink_goes(void *argument)
{
	static const enum end_kind sinks[] = {END_PIPE, END_TCP, END_UNIX};
	static const size_t after[] = {0, 1, 70000};
	static const uint32_t flags[] = {0, FID_NOWAIT, FID_STABLE};
	char *descriptors;
	unsigned number = 0, held = 0, failed = 0, took_all = 0;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	descriptors = descriptors_list();
	for (size_t i = 0; i < FULL_SOURCES * 3; i++)
		for (size_t r = 0; r < ROUTES * 3; r++) {
			enum end_kind source_kind = full_sources[i / 3];
			enum end_kind sink_kind = sinks[i % 3];
			const struct fid_receipt *receipt;
			struct quitter quitter;
			struct fid_pool *pool;
			struct fid_flow *flow;
			struct end source;
			int sink, got;

			doing("%s to %s whose reader goes after %zu bytes, by %s, flags %#x",
			      end_name(source_kind), end_name(sink_kind), after[r / ROUTES],
			      route_name(routes[r % ROUTES]), flags[number % 3]);
			CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
			end_open_source(&source, source_kind, content, BYTES, false);
			sink = sink_with_quitter(sink_kind, after[r / ROUTES], &quitter);
			if (number & 1)
				end_nonblocking(&source);
			if (number & 2)
				CHECK(fcntl(sink, F_SETFL, O_NONBLOCK) == 0);
			flow = flow_of(source.fd, sink, routes[r % ROUTES], flags[number++ % 3],
				       pool);
			if (flow) {
				got = fid_flow_run(flow, 8000);
				receipt = fid_flow_receipt(flow);
				/* The buffers of a socket may take everything before it goes.
				 */
				if (got == 0) {
					CHECK_EQUAL(receipt->bytes_out, BYTES);
					took_all++;
				} else {
					if (got != -EPIPE && got != -ECONNRESET)
						FAIL("%s", fid_error_name(got));
					CHECK_EQUAL(receipt->error_side, FID_SIDE_SINK);
					CHECK(receipt->error_call != FID_CALL_NONE);
					failed++;
				}
				CHECK_EQUAL(receipt->error, got);
				pthread_join(quitter.thread, NULL);
				CHECK(quitter.right);
				CHECK(quitter.got <= receipt->bytes_out);
				held += receipt->bytes_held > 0;
				settle(flow, &source);
				CHECK(fid_flow_free(flow) == NULL);
				close(sink);
			} else {
				close(sink);
				pthread_join(quitter.thread, NULL);
			}
			end_close_source(&source);
			CHECK(fid_pool_free(pool) == NULL);
		}
	descriptors_check(descriptors);
	test_note("%u sinks failed, %u took all; bytes were held and salvaged %u times", failed,
		  took_all, held);
	CHECK(held > 0);
	CHECK(failed > took_all);
}

TEST(a_sink_that_goes_away_is_named_and_exactly_the_missing_bytes_are_salvaged)
{
	test_seed();
	in_child(15, sink_goes, NULL);
}

static void sink_is_reset(void *argument)
{
	static const enum end_kind sources[] = {END_FILE, END_DIRECT, END_ZERO, END_PIPE,
						END_FIFO, END_TCP,    END_UNIX, END_PTY};
	unsigned flows = 0;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
		for (size_t r = 0; r < 2 * ROUTES; r++) {
			struct fid_flow *flow;
			struct end source;
			int fds[2], got;

			doing("%s to a TCP socket that was reset, by %s", end_name(sources[i]),
			      route_name(routes[r / 2]));
			end_open_source(&source, sources[i], content, BYTES, false);
			tcp_pair(fds);
			if (r & 1) {
				end_nonblocking(&source);
				CHECK(fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
			}
			flow = flow_of(source.fd, fds[1], routes[r / 2], 0, NULL);
			reset(fds[0]);
			if (flow) {
				got = fid_flow_run(flow, -1);
				CHECK(got == -ECONNRESET || got == -EPIPE);
				CHECK_EQUAL(fid_flow_receipt(flow)->error, got);
				CHECK_EQUAL(fid_flow_receipt(flow)->error_side, FID_SIDE_SINK);
				CHECK(fid_flow_receipt(flow)->error_call != FID_CALL_NONE);
				flows++;
			}
			fid_flow_free(flow);
			close(fds[1]);
			end_close_source(&source);
		}
	test_note("%u flows into a socket that was reset", flows);
}

TEST(a_sink_that_was_reset_is_named_whatever_the_source_is)
{
	test_seed();
	in_child(10, sink_is_reset, NULL);
}

static void source_goes(void *argument)
{
	static const enum end_kind sinks[] = {END_FILE, END_PIPE, END_TCP, END_UNIX, END_NULL};
	char *descriptors;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	descriptors = descriptors_list();
	for (size_t i = 0; i < sizeof(sinks) / sizeof(sinks[0]); i++)
		for (size_t r = 0; r < ROUTES; r++) {
			const struct fid_receipt *receipt;
			struct fid_pool *pool;
			struct fid_flow *flow;
			struct end sink;
			uint64_t out;
			int fds[2];

			doing("a TCP source that is reset, to %s by %s", end_name(sinks[i]),
			      route_name(routes[r]));
			CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
			tcp_pair(fds);
			end_open_sink(&sink, sinks[i], content, BYTES, false);
			CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
			end_nonblocking(&sink);
			flow = flow_of(fds[0], sink.fd, routes[r], 0, pool);
			if (!flow) {
				close(fds[1]);
			} else {
				/* All of it has passed before the reset drops what is queued.
				 */
				CHECK_EQUAL(write(fds[1], content, 50000), 50000);
				while (fid_flow_receipt(flow)->bytes_out < 50000)
					CHECK_EQUAL(fid_flow_run(flow, 5), -ETIMEDOUT);
				reset(fds[1]);
				CHECK_EQUAL(fid_flow_run(flow, 5000), -ECONNRESET);
				receipt = fid_flow_receipt(flow);
				receipt_check(receipt);
				CHECK_EQUAL(receipt->error_side, FID_SIDE_SOURCE);
				CHECK(receipt->error_call != FID_CALL_NONE);
				CHECK_EQUAL(receipt->bytes_in, 50000);
			}
			out = flow ? fid_flow_receipt(flow)->bytes_out : 0;
			CHECK(fid_flow_free(flow) == NULL);
			close(fds[0]);
			CHECK_EQUAL(end_close_sink(&sink, content, BYTES, out), out);
			CHECK(fid_pool_free(pool) == NULL);
		}
	descriptors_check(descriptors);
}

TEST(a_source_that_is_reset_is_named_and_what_it_sent_is_delivered)
{
	test_seed();
	in_child(10, source_goes, NULL);
}

/* ---- Signals ---- */

static const struct {
	enum end_kind source;
	enum end_kind sink;
} pairs[] = {
	{END_FILE, END_FILE}, {END_FILE, END_PIPE}, {END_FILE, END_TCP}, {END_PIPE, END_FILE},
	{END_PIPE, END_PIPE}, {END_PIPE, END_TCP},  {END_TCP, END_FILE}, {END_TCP, END_PIPE},
	{END_TCP, END_TCP},   {END_UNIX, END_TCP},  {END_TCP, END_UNIX}, {END_PTY, END_PIPE},
	{END_PIPE, END_PTY},
};

enum { PAIRS = sizeof(pairs) / sizeof(pairs[0]) };

static volatile sig_atomic_t signals_seen;

static void count_signal(int number)
{
	(void)number;
	signals_seen = signals_seen + 1;
}

/* Moves the content and expects all of it; returns the calls that returned -EINTR. */
static unsigned move_all(size_t number, uint32_t flags, struct fid_pool *pool)
{
	struct fid_options options = {
		.size = sizeof(options), .flags = flags, .bytes_max = BYTES, .pool = pool};
	struct fid_flow *flow = NULL;
	struct end source, sink;
	unsigned interrupted = 0;
	sigset_t storm;
	int got;

	/* The storm is for the flow and not for the calls of this test. */
	sigemptyset(&storm);
	sigaddset(&storm, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &storm, NULL);
	end_open_source(&source, pairs[number].source, content, BYTES, true);
	end_open_sink(&sink, pairs[number].sink, content, BYTES, true);
	CHECK_EQUAL(fid_flow_new(&flow, source.fd, sink.fd, &options, NULL), 0);
	pthread_sigmask(SIG_UNBLOCK, &storm, NULL);
	while ((got = fid_flow_run(flow, -1)) == -EINTR) {
		CHECK(flags & FID_INTERRUPTIBLE);
		receipt_check(fid_flow_receipt(flow));
		interrupted++;
	}
	pthread_sigmask(SIG_BLOCK, &storm, NULL);
	CHECK_EQUAL(got, 0);
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_out, BYTES);
	receipt_check(fid_flow_receipt(flow));
	CHECK(fid_flow_free(flow) == NULL);
	end_close_source(&source);
	CHECK_EQUAL(end_close_sink(&sink, content, BYTES, BYTES), BYTES);
	return interrupted;
}

static void signal_storm(void *argument)
{
	struct itimerspec every_ms = {.it_interval.tv_nsec = 1000000,
				      .it_value.tv_nsec = 1000000};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct sigaction action = {.sa_handler = count_signal};
	unsigned interrupted = 0;
	struct fid_pool *pool;
	char *descriptors;
	timer_t timer;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	descriptors = descriptors_list();
	CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &every_ms, NULL) == 0);
	for (int restart = 0; restart < 2; restart++) {
		action.sa_flags = restart ? SA_RESTART : 0;
		CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
		for (size_t i = 0; i < PAIRS; i++)
			for (int f = 0; f < 4; f++) {
				uint32_t flags = (f & 1 ? FID_INTERRUPTIBLE : 0) |
						 (f & 2 ? FID_NOWAIT : 0);

				doing("%s to %s, a signal each ms, %s, flags %#x",
				      end_name(pairs[i].source), end_name(pairs[i].sink),
				      restart ? "SA_RESTART" : "no SA_RESTART", flags);
				interrupted += move_all(i, flags, pool);
			}
	}
	timer_delete(timer);
	CHECK(fid_pool_free(pool) == NULL);
	descriptors_check(descriptors);
	test_note("%d signals, -EINTR was returned %u times", (int)signals_seen, interrupted);
	CHECK(signals_seen > 10);
}

TEST(a_signal_each_millisecond_loses_no_byte)
{
	test_seed();
	in_child(10, signal_storm, NULL);
}

/* ---- SIGPIPE ---- */

enum sigpipe_before {
	IS_DEFAULT,
	IS_CAUGHT,
	IS_BLOCKED,
	IS_PENDING,
	IS_PENDING_FOR_ALL,
	STATES
};

static bool sigpipe_is(int (*ask)(sigset_t *))
{
	sigset_t set;

	CHECK(ask(&set) == 0);
	return sigismember(&set, SIGPIPE) == 1;
}

static int ask_mask(sigset_t *set)
{
	return pthread_sigmask(SIG_SETMASK, NULL, set);
}

static void prepare_sigpipe(enum sigpipe_before state)
{
	struct sigaction action = {.sa_handler = state == IS_CAUGHT ? count_signal : SIG_DFL};
	sigset_t only;

	sigemptyset(&only);
	sigaddset(&only, SIGPIPE);
	CHECK(sigaction(SIGPIPE, &action, NULL) == 0);
	pthread_sigmask(state >= IS_BLOCKED ? SIG_BLOCK : SIG_UNBLOCK, &only, NULL);
	if (state == IS_PENDING)
		pthread_kill(pthread_self(), SIGPIPE);
	if (state == IS_PENDING_FOR_ALL)
		kill(getpid(), SIGPIPE);
}

static void check_sigpipe(enum sigpipe_before state)
{
	static const struct timespec at_once;
	bool pending = sigpipe_is(sigpending);
	sigset_t only;

	CHECK_EQUAL(sigpipe_is(ask_mask), state >= IS_BLOCKED);
	CHECK_EQUAL(pending, state >= IS_PENDING);
	CHECK_EQUAL(signals_seen, 0);
	sigemptyset(&only);
	sigaddset(&only, SIGPIPE);
	while (state >= IS_BLOCKED && sigtimedwait(&only, NULL, &at_once) == SIGPIPE)
		;
}

static int dead_sink(enum end_kind kind)
{
	char byte;
	int fds[2];

	stream_pair(kind, fds);
	reset(fds[0]);
	/* The first answer of a reset socket is ECONNRESET; only the next one is EPIPE. */
	if (kind == END_TCP)
		while (read(fds[1], &byte, 1) > 0)
			;
	return fds[1];
}

static void sigpipe(void *argument)
{
	static const enum end_kind sinks[] = {END_PIPE, END_TCP, END_UNIX};
	static const enum end_kind sources[] = {END_FILE, END_PIPE, END_TCP, END_ZERO};
	unsigned broken = 0;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (int i = 0; i < STATES * 3 * 4; i++)
		for (size_t r = 0; r < 2 * ROUTES; r++) {
			enum sigpipe_before state = (enum sigpipe_before)(i % STATES);
			enum end_kind source_kind = sources[i / STATES % 4];
			enum end_kind sink_kind = sinks[i / STATES / 4];
			struct fid_flow *flow;
			struct end source;
			int sink = dead_sink(sink_kind);

			doing("SIGPIPE state %d, %s to a dead %s by %s", state,
			      end_name(source_kind), end_name(sink_kind),
			      route_name(routes[r % ROUTES]));
			end_open_source(&source, source_kind, content, BYTES, false);
			if (r >= ROUTES)
				CHECK(fcntl(sink, F_SETFL, O_NONBLOCK) == 0);
			prepare_sigpipe(state);
			flow = flow_of(source.fd, sink, routes[r % ROUTES], 0, NULL);
			if (flow) {
				int got = fid_flow_run(flow, -1);

				CHECK_EQUAL(got, -EPIPE);
				CHECK_EQUAL(fid_flow_receipt(flow)->error_side, FID_SIDE_SINK);
				broken++;
			}
			check_sigpipe(state);
			fid_flow_free(flow);
			close(sink);
			end_close_source(&source);
		}
	test_note("%u flows into dead sinks", broken);
	CHECK(broken > 100);
}

TEST(no_sigpipe_reaches_the_caller_and_a_pending_one_stays)
{
	test_seed();
	in_child(10, sigpipe, NULL);
}

/* A reader that takes so much, lets the writer fall asleep in a call, and goes. */
static void *read_wait_and_quit(void *argument)
{
	struct quitter *quitter = argument;
	size_t capacity = 64 << 10;
	unsigned char *buffer = malloc(capacity);
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	while (quitter->got < quitter->after) {
		size_t want = quitter->after - quitter->got;
		ssize_t got = read(quitter->fd, buffer, want < capacity ? want : capacity);

		if (got <= 0)
			break;
		quitter->got += (size_t)got;
	}
	free(buffer);
	usleep(3000);
	/* A reset after the end of the other direction is EPIPE at once, and not ECONNRESET. */
	shutdown(quitter->fd, SHUT_WR);
	usleep(1000);
	close(quitter->fd);
	return NULL;
}

/*
 * splice and sendfile that have moved some bytes return their number, although the rest broke
 * and SIGPIPE was raised (Linux 6.18). Whether that call is the last of a step depends on how
 * much went before, so many amounts are tried.
 */
static void partial_break(void *argument)
{
	static const uint32_t ways[] = {FID_ROUTE(FID_SPLICE_PIPE), FID_ROUTE(FID_SENDFILE)};
	int file = open(scratch_shm("long"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	(void)argument;
	CHECK(file >= 0);
	CHECK(ftruncate(file, 16 << 20) == 0);
	for (size_t w = 0; w < 2; w++)
		for (size_t after = 0; after < 9 << 20; after += 150000) {
			struct quitter quitter = {.after = after};
			struct fid_flow *flow;
			int fds[2], got, small = 64 << 10;

			doing("%s that breaks after %zu bytes", route_name(ways[w]), after);
			CHECK(lseek(file, 0, SEEK_SET) == 0);
			tcp_pair(fds);
			setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
			setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
			quitter.fd = fds[0];
			CHECK(pthread_create(&quitter.thread, NULL, read_wait_and_quit,
					     &quitter) == 0);
			flow = flow_of(file, fds[1], ways[w], 0, NULL);
			CHECK(flow != NULL);
			got = fid_flow_run(flow, -1);
			if (got != -EPIPE && got != -ECONNRESET)
				FAIL("%s", fid_error_name(got));
			CHECK(!sigpipe_is(sigpending));
			CHECK(!sigpipe_is(ask_mask));
			pthread_join(quitter.thread, NULL);
			fid_flow_free(flow);
			close(fds[1]);
		}
	close(file);
}

TEST(no_sigpipe_is_left_by_a_call_that_moved_some_bytes_before_it_broke)
{
	test_seed();
	in_child(10, partial_break, NULL);
}

/* ---- Budgets ---- */

enum { PIPES_WANTED = 3000 };

static int hoard[PIPES_WANTED][2];

static void pipe_budget(void *argument)
{
	static const struct {
		enum end_kind source;
		enum end_kind sink;
	} poor[] = {
		{END_MEMFD, END_MEMFD}, {END_MEMFD, END_PIPE}, {END_MEMFD, END_TCP},
		{END_PIPE, END_MEMFD},  {END_PIPE, END_PIPE},  {END_PIPE, END_TCP},
		{END_TCP, END_MEMFD},   {END_TCP, END_PIPE},   {END_TCP, END_TCP},
		{END_UNIX, END_TCP},    {END_ZERO, END_NULL},
	};
	static unsigned char zeros[BYTES];
	struct fid_facts facts;
	struct fid_pool *pool;
	unsigned made;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	if (geteuid() != 0)
		SKIP("it needs root, to become a user without pipes of its own");
	if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
		SKIP("this root may not become another user: %s", strerror(errno));
	made = pipes_exhaust(hoard, PIPES_WANTED);
	if (made == 0)
		SKIP("the user's budget of pipe pages has no end here");
	CHECK_EQUAL(fid_probe(&facts, 0), 0);
	test_note("after %u pipes of 1 MiB a new one has %llu bytes", made,
		  (unsigned long long)facts.pipe_bytes_grown);
	CHECK(facts.pipe_bytes_grown < 65536);
	CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
	for (size_t i = 0; i < 2 * (sizeof(poor) / sizeof(poor[0])); i++) {
		size_t k = i / 2;
		const unsigned char *bytes = poor[k].source == END_ZERO ? zeros : content;
		struct fid_options options = {
			.size = sizeof(options), .bytes_max = BYTES, .pool = pool};
		struct fid_receipt receipt;
		struct end source, sink;

		doing("%s to %s without a budget for pipes", end_name(poor[k].source),
		      end_name(poor[k].sink));
		end_open_source(&source, poor[k].source, bytes, BYTES, false);
		end_open_sink(&sink, poor[k].sink, bytes, BYTES, false);
		if (i & 1) {
			end_nonblocking(&source);
			end_nonblocking(&sink);
		}
		CHECK_EQUAL(fid_copy(source.fd, sink.fd, &options, &receipt), BYTES);
		receipt_check(&receipt);
		CHECK_EQUAL(receipt.by_method[FID_SPLICE_PIPE], 0);
		end_close_source(&source);
		CHECK_EQUAL(end_close_sink(&sink, bytes, BYTES, BYTES), BYTES);
	}
	CHECK(fid_pool_free(pool) == NULL);
}

TEST(flows_move_everything_past_the_budget_of_pipes)
{
	test_seed();
	in_child(10, pipe_budget, NULL);
}

/* What the probe has found while there was none is a fact of that moment only. */
static void budget_comes_back(void *argument)
{
	struct fid_options options = {.size = sizeof(options),
				      .require = FID_REQUIRE_NO_USER_COPY};
	struct fid_receipt receipt;
	struct end source, sink;
	struct fid_facts facts;
	unsigned made;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	if (geteuid() != 0)
		SKIP("it needs root, to become a user without pipes of its own");
	if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
		SKIP("this root may not become another user: %s", strerror(errno));
	made = pipes_exhaust(hoard, PIPES_WANTED);
	if (made == 0)
		SKIP("the user's budget of pipe pages has no end here");
	CHECK_EQUAL(fid_probe(&facts, 0), 0);
	CHECK(facts.pipe_bytes_grown < 65536);
	for (unsigned i = 0; i <= made; i++) {
		close(hoard[i][0]);
		close(hoard[i][1]);
	}
	doing("a socket to a file with a budget for pipes again");
	end_open_source(&source, END_UNIX, content, BYTES, false);
	end_open_sink(&sink, END_MEMFD, content, BYTES, false);
	CHECK_EQUAL(fid_copy(source.fd, sink.fd, &options, &receipt), BYTES);
	CHECK_EQUAL(receipt.by_method[FID_SPLICE_PIPE], BYTES);
	end_close_source(&source);
	CHECK_EQUAL(end_close_sink(&sink, content, BYTES, BYTES), BYTES);
}

TEST(a_budget_of_pipes_that_was_gone_and_came_back_is_used)
{
	test_seed();
	in_child(5, budget_comes_back, NULL);
}

/* ---- A small stack ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_LARGE_FRAMES 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
	__has_feature(memory_sanitizer)
#define HAS_LARGE_FRAMES 1
#endif
#endif
#ifndef HAS_LARGE_FRAMES
#define HAS_LARGE_FRAMES 0
#endif

static void *copy_on_small_stack(void *argument)
{
	const int *ends = argument;

	CHECK_EQUAL(fid_copy(ends[0], ends[1], NULL, NULL), BYTES);
	return NULL;
}

static void small_stack(void *argument)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int ends[2];

	(void)argument;
	if (HAS_LARGE_FRAMES)
		SKIP("this sanitizer needs more of the stack than fid does");
	content_fill(content, sizeof(content), test_seed());
	ends[0] = open(scratch("small-stack"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ends[1] = open("/dev/null", O_WRONLY | O_CLOEXEC);
	CHECK_EQUAL(write(ends[0], content, BYTES), BYTES);
	CHECK_EQUAL(lseek(ends[0], 0, SEEK_SET), 0);
	CHECK(pthread_attr_init(&attributes) == 0);
	CHECK(pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN) +
							     (8 << 10)) == 0);
	doing("fid_copy() in a thread with the smallest stack and 8 KiB");
	CHECK(pthread_create(&thread, &attributes, copy_on_small_stack, ends) == 0);
	pthread_join(thread, NULL);
	close(ends[0]);
	close(ends[1]);
}

TEST(a_thread_with_a_small_stack_may_copy)
{
	test_seed();
	in_child(3, small_stack, NULL);
}

/* ---- RWF_NOSIGNAL ---- */

static unsigned pwritev2_calls;
static bool pwritev2_is_old;

/* Takes the place of the C library's, for the library as well. */
ssize_t pwritev2(int fd, const struct iovec *segments, int count, off_t offset, int flags)
{
	pwritev2_calls++;
	if (pwritev2_is_old) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return syscall(SYS_pwritev2, fd, segments, count, (long)offset,
		       sizeof(long) == 8 ? 0 : (long)(offset >> 32), flags);
}

/* The calls of pwritev2() that a copy of 4 bytes makes. */
static unsigned calls_of_small_copy(int source, int sink)
{
	struct fid_options options = {.size = sizeof(options), .bytes_max = 4};

	pwritev2_calls = 0;
	CHECK_EQUAL(fid_copy(source, sink, &options, NULL), 4);
	return pwritev2_calls;
}

static void nosignal_of_others(void *argument)
{
	int source = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int comm = open("/proc/self/comm", O_WRONLY | O_CLOEXEC);
	struct fid_facts facts;
	int ends[2];

	(void)argument;
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	if (comm < 0)
		SKIP("/proc/self/comm cannot be opened: %s", strerror(errno));
	CHECK_EQUAL(fid_probe(&facts, 0), 0);
	if (facts.write_nosignal != 0)
		SKIP("this kernel has no RWF_NOSIGNAL");
	CHECK_EQUAL(calls_of_small_copy(source, ends[1]), 1);
	for (int i = 0; i < 3; i++)
		calls_of_small_copy(source, comm);
	CHECK_EQUAL(calls_of_small_copy(source, ends[1]), 1);
	CHECK_EQUAL(calls_of_small_copy(source, ends[1]), 1);
}

TEST(a_file_that_takes_no_flags_says_nothing_about_those_that_do)
{
	in_child(2, nosignal_of_others, NULL);
}

static void nosignal_of_old_kernel(void *argument)
{
	int source = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int sink = open(scratch("small"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	(void)argument;
	pwritev2_is_old = true;
	calls_of_small_copy(source, sink);
	CHECK(pwritev2_calls > 0);
	CHECK_EQUAL(calls_of_small_copy(source, sink), 0);
	CHECK_EQUAL(calls_of_small_copy(source, sink), 0);
}

TEST(a_kernel_without_rwf_nosignal_is_asked_once)
{
	in_child(2, nosignal_of_old_kernel, NULL);
}

static void no_descriptor_left(void *argument)
{
	struct rlimit limit, before;
	struct fid_pool *pool;
	char *descriptors;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	descriptors = descriptors_list();
	CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
	for (size_t i = 0; i < 2 * PAIRS; i++) {
		size_t k = i / 2;
		struct fid_options options = {
			.size = sizeof(options), .bytes_max = BYTES, .pool = pool};
		struct fid_receipt receipt;
		struct end source, sink;
		struct fid_facts facts;

		doing("%s to %s without a free descriptor", end_name(pairs[k].source),
		      end_name(pairs[k].sink));
		end_open_source(&source, pairs[k].source, content, BYTES, false);
		end_open_sink(&sink, pairs[k].sink, content, BYTES, false);
		if (i & 1) {
			end_nonblocking(&source);
			end_nonblocking(&sink);
		}
		/* Nothing above the standard ones, whatever the peers close meanwhile. */
		limit = before;
		limit.rlim_cur = 3;
		CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
		CHECK(dup(0) < 0);
		CHECK_EQUAL(fid_probe(&facts, 1), 0);
		CHECK_EQUAL(facts.pipe, -EMFILE);
		CHECK_EQUAL(fid_copy(source.fd, sink.fd, &options, &receipt), BYTES);
		CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
		receipt_check(&receipt);
		CHECK_EQUAL(receipt.by_method[FID_SPLICE_PIPE], 0);
		/* What was found without a descriptor is not kept. */
		CHECK_EQUAL(fid_probe(&facts, 0), 0);
		CHECK_EQUAL(facts.pipe, 0);
		end_close_source(&source);
		CHECK_EQUAL(end_close_sink(&sink, content, BYTES, BYTES), BYTES);
	}
	CHECK(fid_pool_free(pool) == NULL);
	descriptors_check(descriptors);
}

TEST(flows_move_everything_without_a_free_descriptor)
{
	test_seed();
	in_child(10, no_descriptor_left, NULL);
}

static void half_done(void *argument)
{
	struct fid_pool_stats stats;
	struct fid_pool *pool;
	char *descriptors;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	descriptors = descriptors_list();
	CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
	for (size_t i = 0; i < PAIRS; i++) {
		struct fid_options options = {.size = sizeof(options), .pool = pool};
		struct fid_flow *flow;
		struct end source;
		int fds[2];

		/* Nobody reads at the far end, so that the flow holds bytes and waits. */
		doing("%s into a full socket", end_name(pairs[i].source));
		end_open_source(&source, pairs[i].source, content, BYTES, false);
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) ==
		      0);
		CHECK_EQUAL(fid_flow_new(&flow, source.fd, fds[0], &options, NULL), 0);
		do
			CHECK_EQUAL(fid_flow_run(flow, 10), -ETIMEDOUT);
		while (fid_flow_receipt(flow)->bytes_out == 0);
		receipt_check(fid_flow_receipt(flow));
		if (i & 1)
			salvage(flow);
		CHECK(fid_flow_free(flow) == NULL);
		end_close_source(&source);
		close(fds[0]);
		close(fds[1]);
	}
	CHECK_EQUAL(fid_pool_stats(pool, &stats), 0);
	CHECK_EQUAL(stats.pipes_lent, 0);
	CHECK_EQUAL(stats.buffers_lent, 0);
	CHECK(fid_pool_free(pool) == NULL);
	descriptors_check(descriptors);
}

TEST(a_flow_freed_in_the_middle_gives_everything_back)
{
	test_seed();
	in_child(5, half_done, NULL);
}

static void flags_stay(void *argument)
{
	struct fid_pool *pool;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
	for (size_t i = 0; i < 4 * PAIRS; i++) {
		struct fid_options options = {
			.size = sizeof(options), .bytes_max = BYTES, .pool = pool};
		struct end source, sink;
		int before[4], after[4];

		end_open_source(&source, pairs[i / 4].source, content, BYTES, false);
		end_open_sink(&sink, pairs[i / 4].sink, content, BYTES, false);
		if (i & 1)
			end_nonblocking(&source);
		if (i & 2)
			end_nonblocking(&sink);
		before[0] = fcntl(source.fd, F_GETFL);
		before[1] = fcntl(source.fd, F_GETFD);
		before[2] = fcntl(sink.fd, F_GETFL);
		before[3] = fcntl(sink.fd, F_GETFD);
		CHECK_EQUAL(fid_copy(source.fd, sink.fd, &options, NULL), BYTES);
		after[0] = fcntl(source.fd, F_GETFL);
		after[1] = fcntl(source.fd, F_GETFD);
		after[2] = fcntl(sink.fd, F_GETFL);
		after[3] = fcntl(sink.fd, F_GETFD);
		CHECK(memcmp(before, after, sizeof(before)) == 0);
		end_close_source(&source);
		end_close_sink(&sink, content, BYTES, BYTES);
	}
	CHECK(fid_pool_free(pool) == NULL);
}

TEST(the_flags_of_the_descriptors_stay_as_they_are)
{
	test_seed();
	in_child(10, flags_stay, NULL);
}
