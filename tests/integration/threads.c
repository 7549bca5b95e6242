/* SPDX-License-Identifier: MIT */
/*
 * Many threads and one pool. The same program is built with a race detector where there is one;
 * it takes nothing from the other programs that such a detector would have to know.
 */
#include "ends.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, ROUNDS = 12, BYTES = 700001 };

static unsigned char content[THREADS][BYTES];
static struct fid_pool *shared;
static pthread_barrier_t start;

static const struct {
	enum end_kind source;
	enum end_kind sink;
} pairs[] = {
	{END_MEMFD, END_MEMFD}, {END_MEMFD, END_PIPE}, {END_MEMFD, END_UNIX},
	{END_UNIX, END_MEMFD},  {END_UNIX, END_UNIX},  {END_TCP, END_UNIX},
	{END_PIPE, END_MEMFD},  {END_PIPE, END_UNIX},  {END_UNIX, END_PIPE},
};

enum { PAIRS = sizeof(pairs) / sizeof(pairs[0]) };

static void move_one(const unsigned char *bytes, size_t pair, bool nonblocking)
{
	struct fid_options options = {.size = sizeof(options), .pool = shared};
	struct fid_receipt receipt;
	struct end source, sink;

	end_open_source(&source, pairs[pair].source, bytes, BYTES, false);
	end_open_sink(&sink, pairs[pair].sink, bytes, BYTES, false);
	if (nonblocking) {
		end_nonblocking(&source);
		end_nonblocking(&sink);
	}
	CHECK_EQUAL(fid_copy(source.fd, sink.fd, &options, &receipt), BYTES);
	receipt_check(&receipt);
	end_close_source(&source);
	CHECK_EQUAL(end_close_sink(&sink, bytes, BYTES, 0), BYTES);
}

/* Ends in the middle with bytes in hand, so that dirty pipes come back while others take. */
static void abandon_one(const unsigned char *bytes)
{
	struct fid_options options = {.size = sizeof(options),
				      .routes = FID_ROUTE(FID_SPLICE_PIPE) |
						FID_ROUTE(FID_READ_WRITE),
				      .pool = shared};
	struct fid_flow *flow = NULL;
	struct end source;
	int fds[2];

	end_open_source(&source, END_MEMFD, bytes, BYTES, false);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	CHECK_EQUAL(fid_flow_new(&flow, source.fd, fds[0], &options, NULL), 0);
	CHECK(fid_flow_run(flow, 0) <= 0);
	CHECK(fid_flow_free(flow) == NULL);
	end_close_source(&source);
	close(fds[0]);
	close(fds[1]);
}

static void *move_many(void *argument)
{
	const unsigned char *bytes = argument;
	struct fid_pool_stats stats;

	pthread_barrier_wait(&start);
	for (size_t i = 0; i < ROUNDS; i++) {
		move_one(bytes, (i + bytes[0]) % PAIRS, i & 1);
		if (i % 4 == 0)
			abandon_one(bytes);
		CHECK_EQUAL(fid_pool_stats(shared, &stats), 0);
		CHECK(stats.pipes_lent <= 4);
	}
	return NULL;
}

static void run_threads(void *(*run)(void *))
{
	pthread_t threads[THREADS];

	pthread_barrier_init(&start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++) {
		content_fill(content[i], BYTES, test_seed() + (unsigned)i);
		CHECK(pthread_create(&threads[i], NULL, run, content[i]) == 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&start);
}

static void one_pool(void *argument)
{
	struct fid_pool_options options = {.size = sizeof(options),
					   .pipes_max = 4,
					   .pipes_idle_max = 2,
					   .buffers_idle_max = 2};
	char *descriptors = descriptors_list();
	struct fid_pool_stats stats;

	(void)argument;
	CHECK_EQUAL(fid_pool_new(&shared, &options), 0);
	run_threads(move_many);
	CHECK_EQUAL(fid_pool_stats(shared, &stats), 0);
	test_note("%llu pipes made, %llu reused, %llu closed dirty, %llu refused",
		  (unsigned long long)stats.pipes_made, (unsigned long long)stats.pipes_reused,
		  (unsigned long long)stats.pipes_closed_dirty,
		  (unsigned long long)stats.pipes_refused);
	CHECK_EQUAL(stats.pipes_lent, 0);
	CHECK_EQUAL(stats.buffers_lent, 0);
	CHECK(stats.pipes_idle <= 2);
	CHECK(stats.buffers_idle <= 2);
	CHECK(stats.pipes_reused > 0);
	CHECK(stats.pipes_closed_dirty > 0);
	CHECK(fid_pool_free(shared) == NULL);
	descriptors_check(descriptors);
}

TEST(threads_share_a_pool_and_every_byte_arrives)
{
	test_seed();
	in_child(60, one_pool, NULL);
}

static void *move_with_default(void *argument)
{
	const unsigned char *bytes = argument;

	pthread_barrier_wait(&start);
	for (size_t i = 0; i < ROUNDS; i++)
		move_one(bytes, (i + bytes[0]) % PAIRS, i & 1);
	return NULL;
}

static void default_pool(void *argument)
{
	(void)argument;
	shared = NULL;
	run_threads(move_with_default);
}

TEST(threads_share_the_pool_of_the_process)
{
	test_seed();
	in_child(60, default_pool, NULL);
}

static void *probe_many(void *argument)
{
	const unsigned char *bytes = argument;
	struct fid_facts first, facts;

	pthread_barrier_wait(&start);
	CHECK_EQUAL(fid_probe(&first, 0), 0);
	for (int i = 0; i < 50; i++) {
		CHECK_EQUAL(fid_probe(&facts, i % 3 == bytes[0] % 3), 0);
		CHECK_EQUAL(facts.splice, first.splice);
		CHECK_EQUAL(facts.vmsplice_meaning, first.vmsplice_meaning);
		CHECK_EQUAL(facts.pipe, 0);
	}
	return NULL;
}

static void probe_at_once(void *argument)
{
	char *descriptors = descriptors_list();

	(void)argument;
	run_threads(probe_many);
	descriptors_check(descriptors);
}

TEST(threads_may_ask_the_probe_at_once)
{
	test_seed();
	in_child(20, probe_at_once, NULL);
}

static void fork_with_threads(void *argument)
{
	struct fid_pool_stats stats;
	pid_t child;
	int status;

	(void)argument;
	content_fill(content[0], BYTES, 3);
	CHECK_EQUAL(fid_pool_new(&shared, NULL), 0);
	/* Leaves an idle pipe in the pool. */
	move_one(content[0], 5, false);
	CHECK_EQUAL(fid_pool_stats(shared, &stats), 0);
	CHECK(stats.pipes_idle > 0 || stats.buffers_idle > 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		struct fid_pool_stats before, after;

		CHECK_EQUAL(fid_pool_stats(shared, &before), 0);
		move_one(content[0], 5, false);
		CHECK_EQUAL(fid_pool_stats(shared, &after), 0);
		/* Whatever it uses is its own: no pipe is shared with the parent. */
		CHECK_EQUAL(after.pipes_reused, stats.pipes_reused);
		CHECK(fid_pool_free(shared) == NULL);
		_exit(0);
	}
	status = reap(child);
	CHECK_EQUAL(status, 0);
	move_one(content[0], 5, false);
	CHECK(fid_pool_free(shared) == NULL);
}

TEST(a_forked_child_shares_no_pipe_of_the_pool)
{
	test_seed();
	in_child(20, fork_with_threads, NULL);
}

/* ---- A fork while other threads are at work ---- */

enum { FORKS = 60, BUSY = 3 };

static _Atomic bool stop;

static void *probe_until_stopped(void *argument)
{
	struct fid_facts facts;

	while (!stop)
		fid_probe(&facts, argument != NULL);
	return NULL;
}

static void *use_pool_until_stopped(void *argument)
{
	struct fid_options options = {
		.size = sizeof(options), .routes = FID_ROUTE(FID_SPLICE_PIPE), .pool = shared};
	struct fid_pool_stats stats;
	int source = memfd_create("source", MFD_CLOEXEC);
	int sink = open("/dev/null", O_WRONLY | O_CLOEXEC);

	CHECK(ftruncate(source, 20000) == 0);
	while (!stop) {
		CHECK_EQUAL(fid_pool_stats(shared, &stats), 0);
		if (argument)
			CHECK_EQUAL(lseek(source, 0, SEEK_SET), 0);
		if (argument)
			CHECK_EQUAL(fid_copy(source, sink, &options, NULL), 20000);
	}
	close(source);
	close(sink);
	return NULL;
}

/*
 * Forks again and again while the threads run. A child that waits for a lock which nobody there
 * will free is killed by its alarm.
 */
static void fork_while(void *(*run)(void *), int (*ask)(void))
{
	pthread_t threads[BUSY];

	stop = false;
	for (int i = 0; i < BUSY; i++)
		CHECK(pthread_create(&threads[i], NULL, run, i == 0 ? &stop : NULL) == 0);
	for (int i = 0; i < FORKS; i++) {
		pid_t child = fork();
		int status;

		CHECK(child >= 0);
		if (child == 0) {
			signal(SIGALRM, SIG_DFL);
			alarm(3);
			_exit(ask());
		}
		status = reap(child);
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
			FAIL("child %d of %d hangs", i, FORKS);
		CHECK_EQUAL(status, 0);
	}
	stop = true;
	for (int i = 0; i < BUSY; i++)
		pthread_join(threads[i], NULL);
}

static int ask_probe(void)
{
	struct fid_facts facts;

	if (fid_probe(&facts, 0) != 0 || facts.pipe != 0)
		return 1;
	return fid_probe(&facts, 1) != 0 || facts.pipe != 0;
}

static void fork_and_probe(void *argument)
{
	(void)argument;
	fork_while(probe_until_stopped, ask_probe);
}

TEST(a_child_forked_while_others_probe_may_probe)
{
	in_child(8, fork_and_probe, NULL);
}

static int ask_pool(void)
{
	struct fid_options options = {
		.size = sizeof(options), .routes = FID_ROUTE(FID_SPLICE_PIPE), .pool = shared};
	struct fid_pool_stats stats;
	int source = memfd_create("source", MFD_CLOEXEC);
	int sink = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (fid_pool_stats(shared, &stats) != 0 || ftruncate(source, 20000) != 0)
		return 1;
	if (fid_copy(source, sink, &options, NULL) != 20000)
		return 2;
	if (fid_pool_stats(shared, &stats) != 0 || stats.pipes_lent != 0)
		return 3;
	return fid_pool_free(shared) != NULL;
}

static void fork_and_use_pool(void *argument)
{
	(void)argument;
	CHECK_EQUAL(fid_pool_new(&shared, NULL), 0);
	fork_while(use_pool_until_stopped, ask_pool);
	CHECK(fid_pool_free(shared) == NULL);
}

TEST(a_child_forked_while_others_use_a_pool_may_use_it)
{
	in_child(8, fork_and_use_pool, NULL);
}
