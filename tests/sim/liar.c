/* SPDX-License-Identifier: MIT */
/*
 * The real kernel with a call or two that lie: what no kernel does on demand.
 */
#include "flow/flow.h"
#include "pipe/calls.h"
#include "pipe/memory.h"
#include "pipe/pipe.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

struct liar {
	struct fid_kernel kernel; /* first: it is what the engine gets */
	struct fid_pool *pool;
	unsigned calls;
	unsigned polls;
	unsigned slept_ms;
};

static struct liar *liar_of(struct fid_kernel *kernel)
{
	return (struct liar *)(void *)kernel;
}

static void liar_init(struct liar *liar)
{
	memset(liar, 0, sizeof(*liar));
	liar->kernel = *fid_linux();
	CHECK_EQUAL(fid_pool_new_on(&liar->kernel, &liar->pool, NULL), 0);
}

/* All that it is asked about is ready. */
static int all_ready(struct fid_kernel *kernel, struct pollfd *fds, size_t count,
		     int timeout_ms)
{
	struct liar *liar = liar_of(kernel);
	int ready = 0;

	liar->polls++;
	if (count == 0)
		liar->slept_ms += (unsigned)timeout_ms;
	for (size_t i = 0; i < count; i++) {
		fds[i].revents = fds[i].fd < 0 ? 0 : fds[i].events;
		ready += fds[i].revents != 0;
	}
	return ready;
}

static ssize_t splice_not_now(struct fid_kernel *kernel, int source, int64_t *source_offset,
			      int sink, int64_t *sink_offset, size_t bytes, unsigned flags)
{
	liar_of(kernel)->calls++;
	return -EAGAIN;
}

static ssize_t splice_at_fault(struct fid_kernel *kernel, int source, int64_t *source_offset,
			       int sink, int64_t *sink_offset, size_t bytes, unsigned flags)
{
	liar_of(kernel)->calls++;
	return -EFAULT;
}

static ssize_t splice_not_like_this(struct fid_kernel *kernel, int source,
				    int64_t *source_offset, int sink, int64_t *sink_offset,
				    size_t bytes, unsigned flags)
{
	liar_of(kernel)->calls++;
	return -EINVAL;
}

static ssize_t read_not_now(struct fid_kernel *kernel, int fd, void *to, size_t bytes,
			    int64_t offset)
{
	liar_of(kernel)->calls++;
	return -EAGAIN;
}

/* As for memory that is there and has no pages of the machine: memfd_secret(2), devices. */
static ssize_t vmsplice_at_fault(struct fid_kernel *kernel, int pipe,
				 const struct iovec *segments, size_t count, unsigned flags)
{
	liar_of(kernel)->calls++;
	return -EFAULT;
}

/* Meanwhile another process sends SIGPIPE. */
static ssize_t splice_amid_signal(struct fid_kernel *kernel, int source, int64_t *source_offset,
				  int sink, int64_t *sink_offset, size_t bytes, unsigned flags)
{
	pid_t sender = fork();

	if (sender == 0)
		_exit(kill(getppid(), SIGPIPE) == 0 ? 0 : 1);
	CHECK(sender > 0 && waitpid(sender, NULL, 0) == sender);
	return fid_linux()->splice(kernel, source, source_offset, sink, sink_offset, bytes,
				   flags);
}

static void open_pipe(int ends[2])
{
	CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
}

static void close_both(int ends[2])
{
	close(ends[0]);
	close(ends[1]);
}

typedef ssize_t splice_call(struct fid_kernel *kernel, int source, int64_t *source_offset,
			    int sink, int64_t *sink_offset, size_t bytes, unsigned flags);

/* A flow whose splice says always the same, though both ends are ready, moves on without it. */
static void leave_splice(splice_call *splice, int error)
{
	struct fid_options options = {.size = sizeof(options), .bytes_max = 20000};
	const struct fid_receipt *receipt;
	struct fid_flow *flow;
	struct liar liar;
	int in[2], out[2];
	char bytes[20000] = "x";
	int result = FID_MORE;

	liar_init(&liar);
	liar.kernel.poll = all_ready;
	liar.kernel.splice = splice;
	open_pipe(in);
	open_pipe(out);
	CHECK_EQUAL(write(in[1], bytes, sizeof(bytes)), sizeof(bytes));
	options.pool = liar.pool;
	CHECK_EQUAL(fid_flow_new_on(&liar.kernel, &flow, in[0], out[1], &options, NULL), 0);
	for (int i = 0; i < 100 && result > 0; i++)
		result = fid_flow_step(flow, NULL);
	CHECK_EQUAL(result, FID_DONE);
	CHECK(liar.calls < 50);
	receipt = fid_flow_receipt(flow);
	CHECK_EQUAL(receipt->by_method[FID_READ_WRITE], sizeof(bytes));
	CHECK_EQUAL(receipt->demotion[0].error, error);
	fid_flow_free(flow);
	fid_pool_free(liar.pool);
	close_both(in);
	close_both(out);
}

TEST(a_method_that_is_ready_and_eagain_by_turns_is_left)
{
	leave_splice(splice_not_now, -EAGAIN);
}

TEST(a_method_that_is_ready_and_efault_by_turns_is_left)
{
	leave_splice(splice_at_fault, -EFAULT);
}

TEST(a_run_that_finds_ready_and_eagain_by_turns_sleeps_instead_of_spinning)
{
	struct fid_options options = {.size = sizeof(options),
				      .routes = FID_ROUTE(FID_READ_WRITE)};
	struct fid_flow *flow;
	struct liar liar;
	int in[2], out[2];

	liar_init(&liar);
	liar.kernel.poll = all_ready;
	liar.kernel.read = read_not_now;
	open_pipe(in);
	open_pipe(out);
	options.pool = liar.pool;
	CHECK_EQUAL(fid_flow_new_on(&liar.kernel, &flow, in[0], out[1], &options, NULL), 0);
	CHECK_EQUAL(fid_flow_run(flow, 5), -ETIMEDOUT);
	/* The sleeps are only pretended here, and would be ever longer. */
	CHECK(liar.slept_ms > liar.calls);
	fid_flow_free(flow);
	fid_pool_free(liar.pool);
	close_both(in);
	close_both(out);
}

TEST(a_private_pipe_that_saw_a_refusal_is_closed_and_not_kept)
{
	struct fid_options options = {.size = sizeof(options), .bytes_max = 100000};
	struct fid_pool_stats stats;
	struct liar liar;
	int in[2], out[2];
	static char bytes[100000];

	liar_init(&liar);
	liar.kernel.splice = splice_not_like_this;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out) == 0);
	CHECK_EQUAL(write(in[1], bytes, sizeof(bytes)), sizeof(bytes));
	options.pool = liar.pool;
	CHECK_EQUAL(fid_copy_on(&liar.kernel, in[0], out[1], &options, NULL), sizeof(bytes));
	CHECK_EQUAL(liar.calls, 1);
	CHECK_EQUAL(fid_pool_stats(liar.pool, &stats), 0);
	CHECK_EQUAL(stats.pipes_made, 1);
	CHECK_EQUAL(stats.pipes_closed_dirty, 1);
	CHECK_EQUAL(stats.pipes_idle, 0);
	fid_pool_free(liar.pool);
	close_both(in);
	close_both(out);
}

TEST(lent_memory_that_no_pipe_can_refer_to_is_copied)
{
	struct fid_memory_options options = {.size = sizeof(options), .mode = FID_MEMORY_LEND};
	char bytes[] = "some bytes", got[sizeof(bytes)];
	struct iovec segments[] = {{bytes, 4}, {bytes + 4, sizeof(bytes) - 4}};
	struct fid_memory *memory;
	struct liar liar;
	int out[2];

	liar_init(&liar);
	options.pool = liar.pool;
	open_pipe(out);
	CHECK_EQUAL(fid_memory_new_on(&liar.kernel, &memory, out[1], &options), 0);
	/* Of any other memory it is not refused. */
	liar.kernel.vmsplice = vmsplice_at_fault;
	for (int i = 0; i < 2; i++) {
		CHECK_EQUAL(fid_memory_lend(memory, segments, 2), 0);
		CHECK_EQUAL(fid_memory_run(memory, -1), 0);
		CHECK_EQUAL(read(out[0], got, sizeof(got)), sizeof(bytes));
		CHECK(memcmp(got, bytes, sizeof(bytes)) == 0);
	}
	/* What is not there cannot be copied either. */
	segments[0].iov_base = mmap(NULL, 4, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(segments[0].iov_base != MAP_FAILED);
	CHECK_EQUAL(fid_memory_lend(memory, segments, 2), 0);
	CHECK_EQUAL(fid_memory_run(memory, -1), -EFAULT);
	CHECK_EQUAL(fid_memory_receipt(memory)->error_side, FID_SIDE_SOURCE);
	CHECK(liar.calls >= 3);
	fid_memory_free(memory);
	fid_pool_free(liar.pool);
	munmap(segments[0].iov_base, 4);
	close_both(out);
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
	(void)number;
	signals++;
}

TEST(a_sigpipe_of_another_process_arrives_although_the_calls_own_are_held_back)
{
	const unsigned flags = SPLICE_F_NONBLOCK | FID_NOSIGNAL;
	struct sigaction count = {.sa_handler = count_signal}, before;
	struct liar liar;
	int in[2], out[2];

	CHECK(sigaction(SIGPIPE, &count, &before) == 0);
	liar_init(&liar);
	liar.kernel.splice = splice_amid_signal;
	open_pipe(in);
	open_pipe(out);
	CHECK_EQUAL(write(in[1], "abcdef", 6), 6);
	signals = 0;
	CHECK_EQUAL(fid_splice_on(&liar.kernel, liar.pool, in[0], NULL, out[1], NULL, 3, flags),
		    3);
	CHECK_EQUAL(signals, 1);
	/* Less than was asked for: the call may have raised one, too. */
	CHECK_EQUAL(
		fid_splice_on(&liar.kernel, liar.pool, in[0], NULL, out[1], NULL, 100, flags),
		3);
	CHECK_EQUAL(signals, 2);
	/* And here it has. */
	CHECK_EQUAL(write(in[1], "abcdef", 6), 6);
	close(out[0]);
	CHECK_EQUAL(
		fid_splice_on(&liar.kernel, liar.pool, in[0], NULL, out[1], NULL, 100, flags),
		-EPIPE);
	CHECK_EQUAL(signals, 3);
	liar.kernel.splice = fid_linux()->splice;
	CHECK_EQUAL(
		fid_splice_on(&liar.kernel, liar.pool, in[0], NULL, out[1], NULL, 100, flags),
		-EPIPE);
	CHECK_EQUAL(signals, 3);
	CHECK(sigaction(SIGPIPE, &before, NULL) == 0);
	fid_pool_free(liar.pool);
	close_both(in);
	close(out[1]);
}

TEST(private_pipes_are_close_on_exec)
{
	struct fid_pool *pool;
	struct fid_pipe pipe;

	CHECK_EQUAL(fid_pool_new(&pool, NULL), 0);
	CHECK_EQUAL(fid_pool_pipe_take(pool, 1 << 16, &pipe), 0);
	CHECK_EQUAL(fcntl(pipe.read_end, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	CHECK_EQUAL(fcntl(pipe.write_end, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	fid_pool_pipe_give(pool, &pipe);
	fid_pool_free(pool);
}

/* Sends bytes through the flow and takes them at the far end. */
static void pass(struct fid_flow *flow, int from, int to, size_t bytes)
{
	static char buffer[1 << 16];
	size_t taken = 0;

	CHECK_EQUAL(write(from, buffer, bytes), bytes);
	while (taken < bytes) {
		ssize_t got;

		CHECK(fid_flow_step(flow, NULL) > 0);
		got = recv(to, buffer, sizeof(buffer), MSG_DONTWAIT);
		taken += got > 0 ? (size_t)got : 0;
	}
}

TEST(a_stream_takes_a_pipe_when_it_brings_much_and_copies_when_it_brings_little)
{
	const struct fid_receipt *receipt;
	struct fid_flow *flow;
	int in[2], out[2];
	uint64_t spliced;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, in) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, out) == 0);
	CHECK_EQUAL(fid_flow_new(&flow, in[0], out[1], NULL, NULL), 0);
	for (int i = 0; i < 10; i++)
		pass(flow, in[1], out[0], 100);
	receipt = fid_flow_receipt(flow);
	CHECK_EQUAL(receipt->by_method[FID_SPLICE_PIPE], 0);
	for (int i = 0; i < 10; i++)
		pass(flow, in[1], out[0], 1 << 16);
	spliced = fid_flow_receipt(flow)->by_method[FID_SPLICE_PIPE];
	CHECK(spliced >= 5 << 16);
	for (int i = 0; i < 10; i++)
		pass(flow, in[1], out[0], 100);
	receipt = fid_flow_receipt(flow);
	CHECK(receipt->by_method[FID_SPLICE_PIPE] > spliced);
	CHECK(receipt->by_method[FID_SPLICE_PIPE] <= spliced + 500);
	CHECK_EQUAL(receipt->demotions, 0);
	fid_flow_free(flow);
	close_both(in);
	close_both(out);
}
