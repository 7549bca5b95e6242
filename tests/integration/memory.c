/* SPDX-License-Identifier: MIT */
/*
 * Memory of every mode into sinks of every kind on this kernel: each byte arrives, once and in
 * order, the account says how, and what cannot be delivered comes back exactly.
 */
#include "deny.h"
#include "ends.h"
#include "produce.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = (5 << 20) + 4321, BYTES_SLOW = 300007, PAGE = 64 << 10 };

static unsigned char content[BYTES];

static const struct {
	enum end_kind kind;
	int pipe_bytes;
} sinks[] = {
	{END_PIPE, 4096}, {END_PIPE, 0},  {END_PIPE, 1 << 20}, {END_FIFO, 0},
	{END_TCP, 0},     {END_UNIX, 0},  {END_PTY, 0},        {END_FILE, 0},
	{END_TMPFS, 0},   {END_MEMFD, 0}, {END_APPEND, 0},     {END_NULL, 0},
};

enum { SINKS = sizeof(sinks) / sizeof(sinks[0]) };

static bool is_pipe(enum end_kind kind)
{
	return kind == END_PIPE || kind == END_FIFO;
}

/* Whether this kernel passes on references to memory that is given to a pipe. */
static bool by_reference(void)
{
	struct fid_facts facts;

	CHECK_EQUAL(fid_probe(&facts, 0), 0);
	return facts.vmsplice_meaning == FID_VMSPLICE_BY_REFERENCE;
}

static void check_methods(const struct fid_receipt *receipt, enum fid_memory_mode mode,
			  enum end_kind sink)
{
	uint64_t given = receipt->by_method[FID_VMSPLICE];

	CHECK_EQUAL(given + receipt->by_method[FID_READ_WRITE], receipt->bytes_out);
	CHECK_EQUAL(receipt->by_class[FID_KERNEL_COPY], 0);
	if (mode == FID_MEMORY_COPY || !is_pipe(sink))
		CHECK_EQUAL(given, 0);
	if (by_reference())
		CHECK_EQUAL(receipt->by_class[FID_BY_REFERENCE], given);
	/* Copies cannot change; neither can pages that nobody can write any more. */
	CHECK(receipt->stable || mode == FID_MEMORY_LEND);
}

static void open_sink(struct end *sink, size_t number, const unsigned char *bytes, size_t count)
{
	end_open_sink(sink, sinks[number].kind, bytes, count, true);
	if (sinks[number].pipe_bytes)
		CHECK(fcntl(sink->fd, F_SETPIPE_SZ, sinks[number].pipe_bytes) >= 0);
}

static void all_sinks(void *argument)
{
	enum fid_memory_mode mode = *(const enum fid_memory_mode *)argument;
	unsigned number = (unsigned)test_seed(), timeouts = 0, refusals = 0;
	uint64_t by_method[FID_METHODS] = {0};
	char *descriptors;

	content_fill(content, sizeof(content), test_seed());
	by_reference();
	/* The pool of the process makes what it keeps. */
	descriptors = descriptors_list();
	for (size_t i = 0; i < 4 * SINKS; i++) {
		enum end_kind kind = sinks[i / 4].kind;
		size_t count = kind == END_PTY ? BYTES_SLOW : BYTES;
		enum way way = (enum way)(number++ % WAYS);
		uint32_t flags = i & 1 ? FID_NOWAIT : 0;
		struct producer producer;
		struct end sink;
		int status_flags;

		doing("%s to %s (%zu)%s%s by %s, FID_SEED=%llu", memory_mode_name(mode),
		      end_name(kind), i / 4, i & 2 ? " O_NONBLOCK" : "",
		      i & 1 ? " FID_NOWAIT" : "", way_name(way),
		      (unsigned long long)test_seed());
		open_sink(&sink, i / 4, content, count);
		if (i & 2)
			end_nonblocking(&sink);
		status_flags = fcntl(sink.fd, F_GETFL);
		producer_open(&producer, mode, sink.fd, flags, content, count);
		producer_finish(&producer, way);
		CHECK_EQUAL(fcntl(sink.fd, F_GETFL), status_flags);
		CHECK_EQUAL(fid_memory_receipt(producer.memory)->bytes_in, count);
		CHECK_EQUAL(fid_memory_receipt(producer.memory)->bytes_out, count);
		check_methods(fid_memory_receipt(producer.memory), mode, kind);
		for (int m = 0; m < FID_METHODS; m++)
			by_method[m] += fid_memory_receipt(producer.memory)->by_method[m];
		timeouts += producer.timeouts;
		refusals += producer.refusals;
		producer_close(&producer);
		CHECK_EQUAL(end_close_sink(&sink, content, count, count), count);
	}
	descriptors_check(descriptors);
	test_note("%s: %llu bytes by vmsplice, %llu by write; %u time-outs, %u refusals",
		  memory_mode_name(mode), (unsigned long long)by_method[FID_VMSPLICE],
		  (unsigned long long)by_method[FID_READ_WRITE], timeouts, refusals);
	if (mode != FID_MEMORY_COPY && mode != FID_MEMORY_FRESH && by_reference())
		CHECK(by_method[FID_VMSPLICE] > 0);
}

static void in_mode(unsigned seconds, void (*run)(void *))
{
	test_seed();
	for (int i = 0; i < FID_MEMORY_MODES; i++) {
		enum fid_memory_mode mode = (enum fid_memory_mode)i;

		in_child(seconds, run, &mode);
	}
}

TEST(memory_of_every_mode_arrives_at_every_kind_of_sink)
{
	in_mode(10, all_sinks);
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
	enum fid_memory_mode mode = *(const enum fid_memory_mode *)argument;
	struct itimerspec often = {.it_interval.tv_nsec = 300000, .it_value.tv_nsec = 300000};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct sigaction action = {.sa_handler = count_signal};
	unsigned interrupted = 0;
	sigset_t storm;
	timer_t timer;

	content_fill(content, sizeof(content), test_seed());
	sigemptyset(&storm);
	sigaddset(&storm, SIGUSR1);
	CHECK(pthread_sigmask(SIG_BLOCK, &storm, NULL) == 0);
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &often, NULL) == 0);
	for (size_t i = 0; i < 2 * SINKS; i++) {
		struct producer producer;
		struct end sink;
		int got = FID_MORE;

		doing("%s to %s (%zu) with signals, %s", memory_mode_name(mode),
		      end_name(sinks[i / 2].kind), i / 2,
		      i & 1 ? "FID_INTERRUPTIBLE" : "repeated");
		open_sink(&sink, i / 2, content, BYTES_SLOW);
		producer_open(&producer, mode, sink.fd, i & 1 ? FID_INTERRUPTIBLE : 0, content,
			      BYTES_SLOW);
		while (got || producer.done < BYTES_SLOW) {
			if (producer.done < BYTES_SLOW) {
				got = producer_next(&producer, 0);
				CHECK(got == 0 || got == -EAGAIN);
			}
			/* The storm is for fid and not for the calls of this test. */
			pthread_sigmask(SIG_UNBLOCK, &storm, NULL);
			got = producer_push(&producer, WAY_RUN);
			pthread_sigmask(SIG_BLOCK, &storm, NULL);
			CHECK(got == 0 || (got == -EINTR && (i & 1)));
			interrupted += got == -EINTR;
		}
		CHECK_EQUAL(fid_memory_receipt(producer.memory)->error, 0);
		producer_close(&producer);
		CHECK_EQUAL(end_close_sink(&sink, content, BYTES_SLOW, BYTES_SLOW), BYTES_SLOW);
	}
	timer_delete(timer);
	test_note("%s: %d signals, -EINTR was returned %u times", memory_mode_name(mode),
		  (int)signals_seen, interrupted);
}

TEST(signals_lose_no_byte_of_memory)
{
	in_mode(10, signal_storm);
}

/* A reader that begins when a signal has come, so that the writer is asleep when it comes. */
static void interrupted_once(void *argument)
{
	enum fid_memory_mode mode = *(const enum fid_memory_mode *)argument;
	struct sigaction action = {.sa_handler = count_signal};

	content_fill(content, sizeof(content), test_seed());
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	for (int i = 0; i < 2; i++) {
		struct itimerspec repeated = {.it_value.tv_nsec = 20000000,
					      .it_interval.tv_nsec = 20000000};
		struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
		struct itimerspec never = {0};
		struct producer producer;
		struct peer peer = PEER_NONE;
		timer_t timer;
		int fds[2];

		doing("%s interrupted in a full %s", memory_mode_name(mode),
		      i ? "socket" : "pipe");
		stream_pair(i ? END_UNIX : END_PIPE, fds);
		producer_open(&producer, mode, fds[1], FID_INTERRUPTIBLE, content, 1 << 20);
		while (producer.done < 1 << 20 && producer_next(&producer, 0) == 0)
			;
		/* A kernel's buffer of any size is full after so many rounds. */
		CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
		CHECK(timer_settime(timer, 0, &repeated, NULL) == 0);
		while (fid_memory_run(producer.memory, -1) != -EINTR)
			while (producer.done < 1 << 20 && producer_next(&producer, 0) == 0)
				;
		CHECK(timer_settime(timer, 0, &never, NULL) == 0);
		timer_delete(timer);
		receipt_check(fid_memory_receipt(producer.memory));
		CHECK_EQUAL(fid_memory_receipt(producer.memory)->error, 0);
		peer_drain(&peer, fds[0], content, 1 << 20, false);
		producer_finish(&producer, WAY_RUN);
		producer_close(&producer);
		close(fds[1]);
		peer_join(&peer);
		CHECK_EQUAL(peer.drained, 1 << 20);
		CHECK(peer.wrong_at == SIZE_MAX);
	}
}

TEST(a_signal_while_the_sink_is_full_is_eintr_and_nothing_is_lost)
{
	in_mode(5, interrupted_once);
}

/* ---- A reader that does not read ---- */

/* Reads all that comes to the end; compares it with the content; returns how much it was. */
static size_t read_all(int fd)
{
	struct peer peer = PEER_NONE;

	peer_drain(&peer, fd, content, sizeof(content), false);
	peer_join(&peer);
	CHECK(peer.wrong_at == SIZE_MAX);
	return peer.drained;
}

/*
 * Fills the sink without sleeping, and goes on until the memory takes no more itself. A socket
 * that is full may take some more when its peer's buffer has had a moment.
 */
static void fill_without_sleep(struct producer *producer)
{
	struct pollfd wait, again = {.fd = producer->sink, .events = POLLOUT};
	int got = 0, refused = 0;

	while (refused < 2 || poll(&again, 1, 20) == 1) {
		CHECK(producer->done < producer->count);
		got = producer_next(producer, 0);
		CHECK(got == 0 || got == -EAGAIN);
		refused = got == -EAGAIN ? refused + 1 : 0;
		while ((got = fid_memory_step(producer->memory, &wait)) == FID_MORE)
			;
		if (got == FID_DONE) {
			CHECK_EQUAL(wait.fd, -1);
			refused = 0;
			continue;
		}
		CHECK_EQUAL(got, FID_WAIT);
		CHECK_EQUAL(wait.fd, producer->sink);
		CHECK_EQUAL(wait.events, POLLOUT);
	}
	CHECK_EQUAL(got, FID_WAIT);
	receipt_check(fid_memory_receipt(producer->memory));
	CHECK(fid_memory_receipt(producer->memory)->bytes_held > 0);
}

static void unread(void *argument)
{
	static const enum end_kind kinds[] = {END_PIPE, END_TCP, END_UNIX};
	enum fid_memory_mode mode = *(const enum fid_memory_mode *)argument;
	char *descriptors;

	content_fill(content, sizeof(content), test_seed());
	by_reference();
	descriptors = descriptors_list();
	for (int i = 0; i < 12; i++) {
		enum end_kind kind = kinds[i / 4];
		const struct fid_receipt *receipt;
		struct producer producer;
		struct peer peer = PEER_NONE;
		int fds[2], end = 0;

		doing("%s to an unread %s, %s", memory_mode_name(mode), end_name(kind),
		      i & 1 ? "FID_NOWAIT" : "O_NONBLOCK");
		small_pair(kind, 0, fds);
		if (!(i & 1))
			CHECK(fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
		producer_open(&producer, mode, fds[1], i & 1 ? FID_NOWAIT : 0, content, BYTES);
		/* On a busy machine a socket takes a little more later still. */
		do
			fill_without_sleep(&producer);
		while (fid_memory_run(producer.memory, 0) == 0 ||
		       (end = fid_memory_run(producer.memory, 5)) == 0);
		CHECK_EQUAL(end, -ETIMEDOUT);
		receipt = fid_memory_receipt(producer.memory);
		CHECK_EQUAL(receipt->error, 0);
		CHECK(receipt->waits > 0);
		if (i & 2 && mode != FID_MEMORY_LEND) {
			/* What is salvaged is not delivered any more. */
			producer_salvage(&producer);
			CHECK_EQUAL(fid_memory_run(producer.memory, -1), 0);
			receipt = fid_memory_receipt(producer.memory);
			close(fds[1]);
			CHECK_EQUAL(read_all(fds[0]), receipt->bytes_out);
		} else {
			peer_drain(&peer, fds[0], content, BYTES, false);
			producer_finish(&producer, WAY_RUN);
			CHECK_EQUAL(fid_memory_receipt(producer.memory)->bytes_out, BYTES);
			close(fds[1]);
			peer_join(&peer);
			CHECK(peer.wrong_at == SIZE_MAX);
			CHECK_EQUAL(peer.drained, BYTES);
		}
		producer_close(&producer);
	}
	descriptors_check(descriptors);
}

TEST(a_reader_that_does_not_read_makes_a_step_wait_and_a_run_time_out)
{
	in_mode(5, unread);
}

/* ---- A reader that goes ---- */

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

static void reader_goes(void *argument)
{
	static const enum end_kind kinds[] = {END_PIPE, END_TCP, END_UNIX};
	static const size_t reads[] = {0, 1, 5000, 60000};
	enum fid_memory_mode mode = *(const enum fid_memory_mode *)argument;
	char *descriptors;

	content_fill(content, sizeof(content), test_seed());
	by_reference();
	descriptors = descriptors_list();
	for (int i = 0; i < 24; i++) {
		enum end_kind kind = kinds[i % 3];
		const struct fid_receipt *receipt;
		struct producer producer;
		int fds[2], left = 0, got, end;
		bool broken = false;
		size_t taken;
		void *room;

		doing("%s to %s whose reader goes after %zu bytes", memory_mode_name(mode),
		      end_name(kind), reads[i / 6]);
		small_pair(kind, 0, fds);
		producer_open(&producer, mode, fds[1], FID_NOWAIT, content, BYTES);
		fill_without_sleep(&producer);
		CHECK(ioctl(fds[0], FIONREAD, &left) == 0);
		taken = reads[i / 6] < (size_t)left ? reads[i / 6] : (size_t)left;
		read_exactly(fds[0], taken);
		CHECK(ioctl(fds[0], FIONREAD, &left) == 0);
		close(fds[0]);
		/* SIGPIPE has its default action here and would end this process. */
		end = i / 3 % 2 ? fid_memory_run(producer.memory, 5000)
				: fid_memory_step(producer.memory, NULL);
		CHECK(end == -EPIPE || (end == -ECONNRESET && kind != END_PIPE));
		receipt = fid_memory_receipt(producer.memory);
		CHECK_EQUAL(receipt->error, end);
		CHECK_EQUAL(receipt->error_side, FID_SIDE_SINK);
		broken = receipt->error_call == FID_CALL_WRITE ||
			 receipt->error_call == FID_CALL_VMSPLICE ||
			 receipt->error_call == FID_CALL_POLL;
		CHECK(broken);
		if (kind == END_PIPE)
			CHECK_EQUAL(receipt->bytes_out, taken + (size_t)left);
		CHECK(producer_salvage(&producer) > 0);
		CHECK_EQUAL(fid_memory_step(producer.memory, NULL), end);
		CHECK_EQUAL(fid_memory_run(producer.memory, -1), end);
		if (mode == FID_MEMORY_COPY || mode == FID_MEMORY_FRESH)
			got = (int)fid_memory_reserve(producer.memory, 1, &room);
		else
			got = producer_next(&producer, 1);
		CHECK_EQUAL(got, end);
		producer_close(&producer);
		close(fds[1]);
	}
	descriptors_check(descriptors);
}

TEST(a_reader_that_goes_is_epipe_without_a_signal_and_the_rest_is_salvaged)
{
	in_mode(5, reader_goes);
}

/* ---- Memory that is not there ---- */

static void lend_a_hole(void *argument)
{
	static const enum end_kind kinds[] = {END_PIPE, END_TCP, END_UNIX, END_FILE, END_TMPFS};
	/* Whole segments before it, and bytes of the same segment before it. */
	static const size_t before[][2] = {{0, 0}, {1, 0}, {5000, 0}, {0, 100}, {30000, 60000}};
	unsigned char *pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)argument;
	CHECK(pages != MAP_FAILED);
	content_fill(content, sizeof(content), test_seed());
	memcpy(pages, content + 30000, PAGE);
	CHECK(munmap(pages + PAGE, PAGE) == 0);
	for (int i = 0; i < 25; i++) {
		size_t whole = before[i / 5][0], part = before[i / 5][1];
		struct fid_memory_options options = {.size = sizeof(options),
						     .mode = FID_MEMORY_LEND};
		struct iovec segments[] = {
			{content + 30000 - whole, whole},
			{pages + PAGE - part, part + 3000},
			{pages + (2 << 16), 2000},
		};
		const struct fid_receipt *receipt;
		unsigned char wanted[PAGE + 30000];
		struct fid_memory *memory;
		struct end sink;
		uint64_t out;

		doing("%zu bytes and %zu bytes before a hole to %s", whole, part,
		      end_name(kinds[i % 5]));
		memcpy(wanted, content + 30000 - whole, whole);
		memcpy(wanted + whole, pages + PAGE - part, part);
		end_open_sink(&sink, kinds[i % 5], wanted, whole + part, false);
		CHECK_EQUAL(fid_memory_new(&memory, sink.fd, &options), 0);
		CHECK_EQUAL(fid_memory_lend(memory, segments, 3), 0);
		CHECK_EQUAL(fid_memory_run(memory, 5000), -EFAULT);
		receipt = fid_memory_receipt(memory);
		receipt_check(receipt);
		CHECK_EQUAL(receipt->bytes_in, whole + part + 5000);
		CHECK_EQUAL(receipt->error, -EFAULT);
		CHECK_EQUAL(receipt->error_side, FID_SIDE_SOURCE);
		out = receipt->bytes_out;
		CHECK(out >= whole && out <= whole + part);
		CHECK_EQUAL(fid_memory_run(memory, -1), -EFAULT);
		CHECK(fid_memory_free(memory) == NULL);
		CHECK_EQUAL(end_close_sink(&sink, wanted, whole + part, out), out);
	}
}

TEST(lent_memory_that_is_not_there_is_efault_and_what_came_before_is_exact)
{
	test_seed();
	in_child(5, lend_a_hole, NULL);
}

/* ---- Sandboxes ---- */

struct sandbox {
	enum fid_memory_mode mode;
	int error;
	bool in_the_middle;
};

static void send_in_sandbox(void *argument)
{
	static const int vmsplice_call = SYS_vmsplice;
	const struct sandbox *sandbox = argument;
	const struct fid_receipt *receipt;
	struct producer producer;
	uint64_t given = 0, calls = 0;
	struct end sink;

	doing("%s where vmsplice is %s %s", memory_mode_name(sandbox->mode),
	      fid_error_name(sandbox->error),
	      sandbox->in_the_middle ? "after a while" : "from the start");
	content_fill(content, sizeof(content), test_seed());
	end_open_sink(&sink, END_PIPE, content, BYTES, true);
	if (!sandbox->in_the_middle)
		deny(&vmsplice_call, 1, sandbox->error);
	producer_open(&producer, sandbox->mode, sink.fd, 0, content, BYTES);
	if (sandbox->in_the_middle) {
		while (producer.done < BYTES / 2) {
			int got = producer_next(&producer, 0);

			CHECK(got == 0 || got == -EAGAIN);
			CHECK(producer_push(&producer, WAY_STEP) >= 0);
		}
		receipt = fid_memory_receipt(producer.memory);
		given = receipt->by_method[FID_VMSPLICE];
		calls = receipt->calls[FID_VMSPLICE];
		deny(&vmsplice_call, 1, sandbox->error);
	}
	producer_finish(&producer, WAY_RUN);
	receipt = fid_memory_receipt(producer.memory);
	CHECK_EQUAL(receipt->bytes_out, BYTES);
	CHECK_EQUAL(receipt->by_method[FID_VMSPLICE], given);
	/* Fresh memory that does not come in huge pages does not try. */
	CHECK(!given || sandbox->mode == FID_MEMORY_FRESH ||
	      receipt->calls[FID_VMSPLICE] == calls + 1);
	if (given && receipt->calls[FID_VMSPLICE] > calls) {
		CHECK_EQUAL(receipt->demotions, 1);
		CHECK_EQUAL(receipt->demotion[0].from, FID_VMSPLICE);
		CHECK_EQUAL(receipt->demotion[0].to, FID_READ_WRITE);
		CHECK_EQUAL(receipt->demotion[0].call, FID_CALL_VMSPLICE);
		CHECK_EQUAL(receipt->demotion[0].error, -sandbox->error);
	}
	producer_close(&producer);
	CHECK_EQUAL(end_close_sink(&sink, content, BYTES, BYTES), BYTES);
}

TEST(memory_arrives_where_vmsplice_is_refused)
{
	static const int errors[] = {EPERM, ENOSYS, EOPNOTSUPP, EINVAL};

	test_seed();
	for (int i = 0; i < FID_MEMORY_MODES * 8; i++) {
		struct sandbox sandbox = {(enum fid_memory_mode)(i / 8), errors[i % 4],
					  i / 4 % 2};

		in_child(5, send_in_sandbox, &sandbox);
	}
}
