/* SPDX-License-Identifier: MIT */
/*
 * Each method alone: it moves every byte, its bytes are counted in the class that they belong
 * to, and where it cannot work it is refused before a byte is taken.
 */
#include "ends.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BYTES = 300007 };

static unsigned char content[BYTES];
static unsigned char zeros[BYTES];

static bool is_file(enum end_kind kind)
{
	return kind == END_FILE || kind == END_TMPFS || kind == END_DIRECT ||
	       kind == END_MEMFD || kind == END_APPEND;
}

static bool is_pipe(enum end_kind kind)
{
	return kind == END_PIPE || kind == END_FIFO;
}

static bool is_socket(enum end_kind kind)
{
	return kind == END_TCP || kind == END_UNIX;
}

/* What the kernel is known to do, from fs/splice.c and from experiments on Linux 6.18. */
static enum fid_class class_of(enum fid_method method, enum end_kind source, enum end_kind sink)
{
	bool reference_in = is_pipe(source) || is_socket(source) ||
			    (is_file(source) && source != END_DIRECT);
	bool reference_out = is_pipe(sink) || is_socket(sink) || sink == END_NULL;

	if (method == FID_REFLINK)
		return FID_BY_REFERENCE;
	if (method == FID_READ_WRITE)
		return FID_USER_COPY;
	if (method == FID_COPY_FILE_RANGE)
		return FID_KERNEL_COPY;
	return reference_in && reference_out ? FID_BY_REFERENCE : FID_KERNEL_COPY;
}

/* Where a method must work, whatever else it may do. */
static const struct {
	enum fid_method method;
	enum end_kind source;
	enum end_kind sink;
	bool nonblocking; /* only so */
} must_work[] = {
	{FID_COPY_FILE_RANGE, END_FILE, END_FILE, false},
	{FID_COPY_FILE_RANGE, END_TMPFS, END_TMPFS, false},
	{FID_COPY_FILE_RANGE, END_MEMFD, END_MEMFD, false},
	{FID_SENDFILE, END_FILE, END_FILE, false},
	{FID_SENDFILE, END_FILE, END_TMPFS, false},
	{FID_SENDFILE, END_TMPFS, END_FILE, false},
	{FID_SENDFILE, END_FILE, END_TCP, false},
	{FID_SENDFILE, END_MEMFD, END_TCP, false},
	{FID_SENDFILE, END_FILE, END_UNIX, false},
	{FID_SENDFILE, END_DIRECT, END_TCP, false},
	{FID_SPLICE, END_FILE, END_PIPE, false},
	{FID_SPLICE, END_TMPFS, END_FIFO, false},
	{FID_SPLICE, END_DIRECT, END_PIPE, false},
	{FID_SPLICE, END_MEMFD, END_PIPE, false},
	{FID_SPLICE, END_ZERO, END_PIPE, false},
	{FID_SPLICE, END_PIPE, END_PIPE, false},
	{FID_SPLICE, END_FIFO, END_PIPE, false},
	{FID_SPLICE, END_PIPE, END_FIFO, false},
	{FID_SPLICE, END_PIPE, END_NULL, false},
	{FID_SPLICE, END_PIPE, END_TCP, true},
	{FID_SPLICE, END_PIPE, END_UNIX, true},
	{FID_SPLICE, END_TCP, END_PIPE, true},
	{FID_SPLICE, END_UNIX, END_PIPE, true},
	{FID_SPLICE_PIPE, END_TCP, END_FILE, false},
	{FID_SPLICE_PIPE, END_TCP, END_TMPFS, false},
	{FID_SPLICE_PIPE, END_UNIX, END_FILE, false},
	{FID_SPLICE_PIPE, END_TCP, END_TCP, false},
	{FID_SPLICE_PIPE, END_UNIX, END_TCP, false},
	{FID_SPLICE_PIPE, END_TCP, END_UNIX, true},
	{FID_SPLICE_PIPE, END_PIPE, END_FILE, false},
	{FID_SPLICE_PIPE, END_FILE, END_FILE, false},
	{FID_SPLICE_PIPE, END_FILE, END_TCP, false},
	{FID_SPLICE_PIPE, END_FILE, END_UNIX, false},
};

static bool has_to_work(enum fid_method method, enum end_kind source, enum end_kind sink,
			bool nonblocking)
{
	if (method == FID_READ_WRITE)
		return true;
	for (size_t i = 0; i < sizeof(must_work) / sizeof(must_work[0]); i++)
		if (must_work[i].method == method && must_work[i].source == source &&
		    must_work[i].sink == sink && (!must_work[i].nonblocking || nonblocking))
			return true;
	return false;
}

static bool route_one(enum fid_method method, enum end_kind source_kind,
		      enum end_kind sink_kind, bool nonblocking)
{
	const unsigned char *bytes = source_kind == END_ZERO ? zeros : content;
	struct fid_options options = {.size = sizeof(options), .routes = FID_ROUTE(method)};
	struct fid_receipt receipt;
	struct end source, sink;
	int64_t moved;

	doing("%s alone, %s to %s%s", fid_method_name(method), end_name(source_kind),
	      end_name(sink_kind), nonblocking ? ", O_NONBLOCK" : "");
	if (source_kind == END_ZERO || source_kind == END_PTY)
		options.bytes_max = BYTES;
	end_open_source(&source, source_kind, bytes, BYTES, true);
	end_open_sink(&sink, sink_kind, bytes, BYTES, true);
	if (nonblocking) {
		end_nonblocking(&source);
		end_nonblocking(&sink);
	}
	moved = fid_copy(source.fd, sink.fd, &options, &receipt);
	receipt_check(&receipt);
	if (moved < 0) {
		CHECK(!has_to_work(method, source_kind, sink_kind, nonblocking));
		/* No way by fid's own rules, or the kernel's refusal of the only one. */
		CHECK(moved == -EOPNOTSUPP || moved == -EINVAL || moved == -EXDEV);
		CHECK(receipt.error_side == FID_SIDE_FID || receipt.error_call);
		CHECK(receipt.reason && receipt.reason[0]);
		CHECK_EQUAL(receipt.bytes_held, 0);
		/* The tail of a file with O_DIRECT is no whole block, which some ways refuse.
		 */
		if (source_kind != END_DIRECT)
			CHECK_EQUAL(receipt.bytes_in, 0);
		if (source_kind != END_ZERO)
			CHECK_EQUAL(end_leftover(&source, bytes + receipt.bytes_in,
						 BYTES - (size_t)receipt.bytes_in),
				    BYTES - receipt.bytes_in);
	} else {
		CHECK_EQUAL(moved, BYTES);
		CHECK_EQUAL(receipt.by_method[method], BYTES);
		CHECK_EQUAL(receipt.by_class[class_of(method, source_kind, sink_kind)], BYTES);
		CHECK_EQUAL(receipt.route, method);
		CHECK(receipt.calls[method] > 0);
		CHECK_EQUAL(receipt.demotions, 0);
		CHECK((method == FID_SPLICE_PIPE) == (receipt.pipe_bytes > 0));
	}
	end_close_source(&source);
	CHECK_EQUAL(end_close_sink(&sink, bytes, BYTES, (size_t)receipt.bytes_out),
		    receipt.bytes_out);
	return moved >= 0;
}

static void every_pair_alone(void *argument)
{
	static const enum end_kind sources[] = {END_FILE, END_TMPFS, END_DIRECT, END_MEMFD,
						END_PIPE, END_FIFO,  END_TCP,    END_UNIX,
						END_PTY,  END_ZERO};
	static const enum end_kind sinks[] = {END_FILE, END_TMPFS, END_APPEND, END_MEMFD,
					      END_PIPE, END_FIFO,  END_TCP,    END_UNIX,
					      END_PTY,  END_NULL};
	enum fid_method method = *(const enum fid_method *)argument;
	unsigned worked = 0, refused = 0;
	char *descriptors;
	struct fid_facts facts;

	content_fill(content, sizeof(content), test_seed());
	descriptors = descriptors_list();
	CHECK_EQUAL(fid_probe(&facts, 0), 0);
	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
		for (size_t k = 0; k < sizeof(sinks) / sizeof(sinks[0]); k++)
			for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
				if (route_one(method, sources[i], sinks[k], nonblocking))
					worked++;
				else
					refused++;
			}
	test_note("%s: %u pairs moved by it alone, %u refused it", fid_method_name(method),
		  worked, refused);
	/* The pool of the process keeps pipes, and nothing else stays open. */
	for (char *word = strtok(descriptors_list(), " "); word; word = strtok(NULL, " "))
		CHECK(strstr(descriptors, word) || strstr(word, "=pipe:"));
}

static void alone(enum fid_method method)
{
	test_seed();
	in_child(30, every_pair_alone, &method);
}

TEST(reflink_alone_shares_extents_or_is_refused)
{
	alone(FID_REFLINK);
}

TEST(copy_file_range_alone_moves_files_to_files)
{
	alone(FID_COPY_FILE_RANGE);
}

TEST(sendfile_alone_moves_files_to_files_and_sockets)
{
	alone(FID_SENDFILE);
}

TEST(splice_alone_moves_between_a_pipe_and_the_rest)
{
	alone(FID_SPLICE);
}

TEST(splice_through_a_private_pipe_moves_files_pipes_and_sockets)
{
	alone(FID_SPLICE_PIPE);
}

TEST(read_and_write_alone_move_everything)
{
	alone(FID_READ_WRITE);
}

static void reflinks(void *argument)
{
	struct fid_options options = {.size = sizeof(options),
				      .routes = FID_ROUTE(FID_REFLINK)};
	struct fid_receipt receipt;
	struct end source, sink, trial;
	int refused;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	end_open_source(&source, END_FILE, content, BYTES, false);
	end_open_sink(&trial, END_FILE, content, BYTES, false);
	refused = ioctl(trial.fd, FICLONE, source.fd) < 0 ? errno : 0;
	end_close_sink(&trial, content, BYTES, 0);
	if (refused)
		SKIP("%s shares no extents: %s", file_system_name(source.fd),
		     strerror(refused));
	end_open_sink(&sink, END_FILE, content, BYTES, false);
	CHECK_EQUAL(fid_copy(source.fd, sink.fd, &options, &receipt), BYTES);
	CHECK_EQUAL(receipt.by_class[FID_BY_REFERENCE], BYTES);
	CHECK_EQUAL(receipt.by_method[FID_REFLINK], BYTES);
	CHECK_EQUAL(lseek(source.fd, 0, SEEK_CUR), BYTES);
	CHECK_EQUAL(lseek(sink.fd, 0, SEEK_CUR), BYTES);
	end_close_source(&source);
	CHECK_EQUAL(end_close_sink(&sink, content, BYTES, 0), BYTES);
}

TEST(reflink_counts_by_reference_where_the_file_system_has_it)
{
	test_seed();
	in_child(10, reflinks, NULL);
}

/* ---- Offsets ---- */

static void check_range(int fd, uint64_t at, const unsigned char *bytes, size_t count)
{
	static unsigned char buffer[BYTES];

	CHECK(count <= sizeof(buffer));
	CHECK_EQUAL(pread(fd, buffer, count, (off_t)at), count);
	CHECK(memcmp(buffer, bytes, count) == 0);
}

static int64_t copy_offsets(enum fid_method method, int source, int sink, int64_t from,
			    int64_t to, uint64_t count)
{
	struct fid_options options = {
		.size = sizeof(options), .routes = FID_ROUTE(method), .bytes_max = count};

	if (from >= 0) {
		options.source_offset = (uint64_t)from;
		options.flags |= from == 0 ? FID_SOURCE_OFFSET : 0;
	}
	if (to >= 0) {
		options.sink_offset = (uint64_t)to;
		options.flags |= to == 0 ? FID_SINK_OFFSET : 0;
	}
	doing("%s from offset %lld to offset %lld", fid_method_name(method), (long long)from,
	      (long long)to);
	return fid_copy(source, sink, &options, NULL);
}

static void offsets(void *argument)
{
	static const enum fid_method methods[] = {FID_COPY_FILE_RANGE, FID_SENDFILE,
						  FID_SPLICE_PIPE, FID_READ_WRITE};
	struct end source, sink;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	end_open_source(&source, END_FILE, content, BYTES, false);
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		enum fid_method method = methods[i];

		end_open_sink(&sink, END_FILE, content, BYTES, false);
		/* Both offsets of the descriptors stay. */
		CHECK_EQUAL(lseek(source.fd, 17, SEEK_SET), 17);
		CHECK_EQUAL(lseek(sink.fd, 23, SEEK_SET), 23);
		if (method != FID_SENDFILE) {
			CHECK_EQUAL(copy_offsets(method, source.fd, sink.fd, 1001, 2003, 70001),
				    70001);
			check_range(sink.fd, 2003, content + 1001, 70001);
			CHECK_EQUAL(copy_offsets(method, source.fd, sink.fd, 0, 0, 60000),
				    60000);
			check_range(sink.fd, 0, content, 60000);
			CHECK_EQUAL(lseek(source.fd, 0, SEEK_CUR), 17);
			CHECK_EQUAL(lseek(sink.fd, 0, SEEK_CUR), 23);
		}
		/* The sink's own offset moves, the source's does not. */
		CHECK_EQUAL(copy_offsets(method, source.fd, sink.fd, 5000, -1, 66000), 66000);
		check_range(sink.fd, 23, content + 5000, 66000);
		CHECK_EQUAL(lseek(source.fd, 0, SEEK_CUR), 17);
		CHECK_EQUAL(lseek(sink.fd, 0, SEEK_CUR), 23 + 66000);
		/* Both move, from where they are and not from zero. */
		CHECK_EQUAL(copy_offsets(method, source.fd, sink.fd, -1, -1, 20000), 20000);
		check_range(sink.fd, 23 + 66000, content + 17, 20000);
		CHECK_EQUAL(lseek(source.fd, 0, SEEK_CUR), 17 + 20000);
		CHECK_EQUAL(lseek(sink.fd, 0, SEEK_CUR), 23 + 66000 + 20000);
		/* From an offset to the end of the file, and from beyond it. */
		CHECK_EQUAL(copy_offsets(method, source.fd, sink.fd, BYTES - 50, -1, 0), 50);
		CHECK_EQUAL(copy_offsets(method, source.fd, sink.fd, BYTES + 50, -1, 0), 0);
		CHECK(ftruncate(sink.fd, 0) == 0);
		end_close_sink(&sink, content, BYTES, 0);
	}
	end_close_source(&source);
}

TEST(given_offsets_leave_those_of_the_descriptors_alone)
{
	test_seed();
	in_child(10, offsets, NULL);
}

static void offset_of_source_into_streams(void *argument)
{
	static const enum end_kind kinds[] = {END_PIPE, END_TCP, END_UNIX, END_PTY};

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct fid_options options = {
			.size = sizeof(options), .source_offset = 4097, .bytes_max = 100003};
		struct end source, sink;

		doing("a part of a file to %s", end_name(kinds[i]));
		end_open_source(&source, END_FILE, content, BYTES, false);
		CHECK_EQUAL(lseek(source.fd, 5, SEEK_SET), 5);
		end_open_sink(&sink, kinds[i], content + 4097, 100003, true);
		CHECK_EQUAL(fid_copy(source.fd, sink.fd, &options, NULL), 100003);
		CHECK_EQUAL(lseek(source.fd, 0, SEEK_CUR), 5);
		end_close_source(&source);
		CHECK_EQUAL(end_close_sink(&sink, content + 4097, 100003, 100003), 100003);
	}
}

TEST(a_part_of_a_file_reaches_a_stream_without_moving_the_offset)
{
	test_seed();
	in_child(10, offset_of_source_into_streams, NULL);
}

static void offset_of_stream(void *argument)
{
	struct fid_options options = {.size = sizeof(options), .source_offset = 5};
	struct fid_receipt receipt;
	struct end source, sink;

	(void)argument;
	end_open_source(&source, END_PIPE, content, 100, false);
	end_open_sink(&sink, END_MEMFD, content, 100, false);
	CHECK(fid_copy(source.fd, sink.fd, &options, &receipt) < 0);
	CHECK_EQUAL(receipt.error_side, FID_SIDE_SOURCE);
	CHECK_EQUAL(receipt.bytes_in, 0);
	CHECK_EQUAL(end_leftover(&source, content, 100), 100);
	end_close_source(&source);
	end_close_sink(&sink, content, 100, 0);

	end_open_source(&source, END_MEMFD, content, 100, false);
	end_open_sink(&sink, END_PIPE, content, 100, false);
	options.source_offset = 0;
	options.sink_offset = 5;
	CHECK(fid_copy(source.fd, sink.fd, &options, &receipt) < 0);
	CHECK_EQUAL(receipt.error_side, FID_SIDE_SINK);
	CHECK_EQUAL(receipt.bytes_out, 0);
	end_close_source(&source);
	CHECK_EQUAL(end_close_sink(&sink, content, 100, 0), 0);
}

TEST(an_offset_of_a_pipe_is_refused_and_the_side_is_named)
{
	test_seed();
	in_child(5, offset_of_stream, NULL);
}

static void limit_zero(void *argument)
{
	struct fid_options options = {.size = sizeof(options), .flags = FID_LIMIT_ZERO};

	(void)argument;
	for (int kind = END_FILE; kind <= END_PTY; kind++) {
		struct fid_receipt receipt;
		struct end source, sink;

		doing("a limit of no bytes from %s", end_name((enum end_kind)kind));
		end_open_source(&source, (enum end_kind)kind, content, 100, false);
		end_open_sink(&sink, END_MEMFD, content, 100, false);
		CHECK_EQUAL(fid_copy(source.fd, sink.fd, &options, &receipt), 0);
		receipt_check(&receipt);
		CHECK_EQUAL(end_leftover(&source, content, 100), 100);
		end_close_source(&source);
		CHECK_EQUAL(end_close_sink(&sink, content, 100, 0), 0);
	}
}

TEST(a_limit_of_zero_moves_nothing_and_does_not_wait)
{
	test_seed();
	in_child(5, limit_zero, NULL);
}

static void same_file(void *argument)
{
	struct fid_options options = {.size = sizeof(options), .bytes_max = 5000};
	int sink;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	sink = open(scratch("same"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(write(sink, content, 20000) == 20000);
	/* A part of a file to another part of the same file, each at its own offset. */
	options.source_offset = 1000;
	options.sink_offset = 10000;
	CHECK_EQUAL(fid_copy(sink, sink, &options, NULL), 5000);
	check_range(sink, 10000, content + 1000, 5000);
	check_range(sink, 0, content, 10000);
	check_range(sink, 15000, content + 15000, 5000);
	close(sink);
}

TEST(a_part_of_a_file_is_copied_within_the_file)
{
	test_seed();
	in_child(5, same_file, NULL);
}

static void growing_pipes(void *argument)
{
	struct fid_options options = {.size = sizeof(options)};
	struct end source, sink;

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (int grow = 0; grow < 2; grow++) {
		int before[2], after[2];

		options.flags = grow ? FID_GROW_PIPES : 0;
		end_open_source(&source, END_PIPE, content, BYTES, false);
		end_open_sink(&sink, END_PIPE, content, BYTES, false);
		before[0] = fcntl(source.fd, F_GETPIPE_SZ);
		before[1] = fcntl(sink.fd, F_GETPIPE_SZ);
		CHECK_EQUAL(fid_copy(source.fd, sink.fd, &options, NULL), BYTES);
		after[0] = fcntl(source.fd, F_GETPIPE_SZ);
		after[1] = fcntl(sink.fd, F_GETPIPE_SZ);
		CHECK(grow ? after[0] >= before[0] : after[0] == before[0]);
		CHECK(grow ? after[1] >= before[1] : after[1] == before[1]);
		if (grow && geteuid() == 0)
			CHECK(after[0] > before[0] || after[1] > before[1]);
		end_close_source(&source);
		CHECK_EQUAL(end_close_sink(&sink, content, BYTES, 0), BYTES);
	}
}

TEST(pipes_of_the_caller_grow_only_when_asked)
{
	test_seed();
	in_child(5, growing_pipes, NULL);
}

/* ---- Time and signals ---- */

static const struct {
	enum fid_method method;
	enum end_kind source;
	enum end_kind sink;
} stream_routes[] = {
	{FID_READ_WRITE, END_PIPE, END_FILE},  {FID_READ_WRITE, END_TCP, END_PIPE},
	{FID_SPLICE, END_PIPE, END_PIPE},      {FID_SPLICE_PIPE, END_TCP, END_FILE},
	{FID_SPLICE_PIPE, END_UNIX, END_FILE}, {FID_READ_WRITE, END_PTY, END_PIPE},
};

enum { STREAM_ROUTES = sizeof(stream_routes) / sizeof(stream_routes[0]) };

/* A flow whose source has nothing until the test writes to *ret_far. */
static struct fid_flow *quiet_flow(size_t number, uint32_t flags, struct end *sink,
				   int *ret_source, int *ret_far)
{
	struct fid_options options = {.size = sizeof(options),
				      .flags = flags,
				      .bytes_max = BYTES,
				      .routes = FID_ROUTE(stream_routes[number].method)};
	struct fid_flow *flow = NULL;
	int fds[2];

	switch (stream_routes[number].source) {
	case END_PIPE:
		CHECK(pipe(fds) == 0);
		break;
	case END_TCP:
		tcp_pair(fds);
		break;
	case END_PTY:
		pty_pair(&fds[0], &fds[1]);
		break;
	default:
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
		break;
	}
	*ret_source = fds[0];
	*ret_far = fds[1];
	end_open_sink(sink, stream_routes[number].sink, content, BYTES, false);
	CHECK_EQUAL(fid_flow_new(&flow, *ret_source, sink->fd, &options, NULL), 0);
	return flow;
}

static void finish(struct fid_flow *flow, struct end *sink, int source, int far)
{
	struct peer peer = PEER_NONE;

	peer_feed(&peer, far, content + 1000, BYTES - 1000, false);
	CHECK_EQUAL(fid_flow_run(flow, 10000), 0);
	peer_join(&peer);
	CHECK_EQUAL(fid_flow_receipt(flow)->bytes_out, BYTES);
	receipt_check(fid_flow_receipt(flow));
	CHECK(fid_flow_free(flow) == NULL);
	close(source);
	CHECK_EQUAL(end_close_sink(sink, content, BYTES, 0), BYTES);
}

static void timeouts(void *argument)
{
	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	for (size_t i = 0; i < STREAM_ROUTES; i++) {
		struct fid_flow *flow;
		struct end sink;
		int source, far;

		doing("a quiet %s by %s", end_name(stream_routes[i].source),
		      fid_method_name(stream_routes[i].method));
		flow = quiet_flow(i, 0, &sink, &source, &far);
		CHECK_EQUAL(fid_flow_run(flow, 0), -ETIMEDOUT);
		CHECK_EQUAL(fid_flow_run(flow, 10), -ETIMEDOUT);
		CHECK_EQUAL(fid_flow_receipt(flow)->bytes_in, 0);
		CHECK_EQUAL(write(far, content, 1000), 1000);
		CHECK_EQUAL(fid_flow_run(flow, 20), -ETIMEDOUT);
		CHECK_EQUAL(fid_flow_receipt(flow)->bytes_in, 1000);
		CHECK_EQUAL(fid_flow_receipt(flow)->bytes_out, 1000);
		finish(flow, &sink, source, far);
	}
}

TEST(a_flow_goes_on_after_etimedout)
{
	test_seed();
	in_child(10, timeouts, NULL);
}

static void copy_timeout(void *argument)
{
	struct fid_options options = {.size = sizeof(options), .timeout_ms = 20};
	struct fid_receipt receipt;
	int source[2], sink[2];

	(void)argument;
	CHECK(pipe(source) == 0 && pipe(sink) == 0);
	CHECK(write(source[1], "abc", 3) == 3);
	CHECK_EQUAL(fid_copy(source[0], sink[1], &options, &receipt), -ETIMEDOUT);
	CHECK_EQUAL(receipt.bytes_out, 3);
	CHECK_EQUAL(receipt.bytes_held, 0);
	receipt_check(&receipt);
}

TEST(fid_copy_keeps_to_its_timeout_and_says_what_it_moved)
{
	in_child(5, copy_timeout, NULL);
}

static void on_signal(int number)
{
	(void)number;
}

struct pest {
	pthread_t thread;
	pthread_t target;
	volatile bool stop;
};

/* Signals the thread that moves the bytes, also while it sleeps. */
static void *pester(void *argument)
{
	struct pest *pest = argument;

	while (!pest->stop) {
		usleep(3000);
		pthread_kill(pest->target, SIGUSR1);
	}
	return NULL;
}

static void interrupted(void *argument)
{
	struct pest pest = {.target = pthread_self()};
	struct sigaction action = {.sa_handler = on_signal};

	(void)argument;
	content_fill(content, sizeof(content), test_seed());
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	CHECK(pthread_create(&pest.thread, NULL, pester, &pest) == 0);
	for (size_t i = 0; i < STREAM_ROUTES; i++) {
		struct fid_flow *flow;
		struct end sink;
		int source, far, result;

		doing("interrupting a quiet %s by %s", end_name(stream_routes[i].source),
		      fid_method_name(stream_routes[i].method));
		flow = quiet_flow(i, FID_INTERRUPTIBLE, &sink, &source, &far);
		CHECK_EQUAL(fid_flow_run(flow, -1), -EINTR);
		CHECK_EQUAL(fid_flow_run(flow, -1), -EINTR);
		CHECK_EQUAL(fid_flow_receipt(flow)->bytes_in, 0);
		CHECK_EQUAL(write(far, content, 1000), 1000);
		do {
			result = fid_flow_run(flow, -1);
			CHECK_EQUAL(result, -EINTR);
		} while (fid_flow_receipt(flow)->bytes_out < 1000);
		CHECK_EQUAL(fid_flow_receipt(flow)->bytes_in, 1000);
		fid_flow_free(flow);
		close(source);
		close(far);
		end_close_sink(&sink, content, BYTES, 0);

		doing("not interrupting a quiet %s", end_name(stream_routes[i].source));
		flow = quiet_flow(i, 0, &sink, &source, &far);
		CHECK_EQUAL(fid_flow_run(flow, 15), -ETIMEDOUT);
		CHECK_EQUAL(write(far, content, 1000), 1000);
		finish(flow, &sink, source, far);
	}
	pest.stop = true;
	pthread_join(pest.thread, NULL);
}

TEST(a_signal_returns_eintr_only_where_that_was_asked_for)
{
	test_seed();
	in_child(10, interrupted, NULL);
}
