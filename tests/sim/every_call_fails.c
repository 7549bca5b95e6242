/* SPDX-License-Identifier: MIT */
/*
 * For each pair of kinds and each way: a run without failures says which calls it makes, and
 * then the first of them fails, with each errno value that is plausible for that call, then the
 * second, and so on to the last. After each run the account is exact, the sink has a prefix of
 * the source, salvage hands over what follows, the source stands at the next byte, and nothing
 * leaks. A refusal is survived where another way is allowed; an I/O error is final, not tried
 * again, and blamed on the right call and side.
 */
#include "sim.h"
#include "test.h"
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { LOG = 1 << 14, BYTES = 200001, LIMIT = 160000 };

enum mode { BY_STEP, BY_RUN, BY_BOUNDED_RUN, BY_COPY, BY_COPY_WITHOUT_RECEIPT };

struct scenario {
	enum sim_kind source;
	enum sim_kind sink;
	int flags;        /* of both descriptors */
	uint32_t options; /* FID_STABLE and the others */
	uint32_t routes;
	enum mode mode;
	uint64_t bytes_max;
	const struct sim_world *world;
};

/* Errno values by call, ended by 0. */
static const int errors[SIM_CALLS][16] = {
	[SIM_READ] = {EIO, EINTR, EAGAIN, ECONNRESET, ETIMEDOUT, ENOMEM, EINVAL},
	[SIM_WRITE] = {EIO, EINTR, EAGAIN, ENOSPC, EPIPE, EDQUOT, EFBIG, ECONNRESET, EOPNOTSUPP,
		       EPERM},
	[SIM_SPLICE] = {EINVAL, EPERM, ENOSYS, EOPNOTSUPP, ENOMEM, EIO, EINTR, EAGAIN, EPIPE,
			ENOSPC, ECONNRESET},
	[SIM_SENDFILE] = {EINVAL, EPERM, ENOSYS, EOPNOTSUPP, EOVERFLOW, ENOMEM, EIO, EINTR,
			  EAGAIN, EPIPE, ENOSPC, ECONNRESET},
	[SIM_COPY_FILE_RANGE] = {EXDEV, EINVAL, EPERM, ENOSYS, EOPNOTSUPP, EBADF, ETXTBSY,
				 ENOMEM, EIO, EINTR, ENOSPC, EDQUOT},
	[SIM_REFLINK] = {EOPNOTSUPP, EXDEV, EINVAL, EPERM, ENOSYS, ENOTTY, EBADF, EIO, ENOSPC,
			 EINTR},
	[SIM_STAT] = {EIO, EOVERFLOW, ENOMEM, EPERM},
	[SIM_STATUS_FLAGS] = {EPERM, ENOSYS},
	[SIM_SOCKET] = {EPERM, ENOSYS},
	[SIM_SOCKET_ERROR] = {EPERM, ENOSYS},
	[SIM_IS_TERMINAL] = {EPERM},
	[SIM_FILE_SYSTEM] = {EPERM, ENOSYS, EIO},
	[SIM_SEEK] = {EPERM, ESPIPE, EIO},
	[SIM_PIPE] = {EMFILE, ENFILE, EPERM, ENOSYS, ENOMEM},
	[SIM_PIPE_RESIZE] = {EPERM, EBUSY, ENOMEM},
	[SIM_PIPE_SIZE] = {EPERM, EBADF},
	[SIM_CLOSE] = {EIO, EINTR},
	[SIM_POLL] = {EINTR, ENOMEM, EINVAL},
	[SIM_MAP] = {ENOMEM},
	[SIM_DISCARD] = {EINVAL},
};

static bool moves_bytes(enum sim_call call)
{
	return call >= SIM_READ && call <= SIM_REFLINK;
}

static bool is_refusal(int error)
{
	return error == EINVAL || error == EPERM || error == ENOSYS || error == EOPNOTSUPP;
}

static bool is_final(int error)
{
	return error == EIO || error == ENOSPC || error == EPIPE || error == ECONNRESET ||
	       error == EDQUOT || error == EFBIG || error == ETIMEDOUT;
}

static int open_source(struct sim *sim, const struct scenario *scenario)
{
	struct sim_object *object;
	int fd;

	if (scenario->source == SIM_REGULAR)
		return sim_regular(sim, BYTES, O_RDONLY | scenario->flags);
	fd = sim_source(sim, scenario->source, scenario->flags, BYTES, SIM_END_CLOSE);
	object = sim_object(sim, fd);
	object->producer.bytes_max = 40000;
	object->producer.delay_ns = 0;
	object->queue_bytes_max = 40000;
	return fd;
}

static int open_sink(struct sim *sim, const struct scenario *scenario)
{
	struct sim_object *object;
	int fd;

	if (scenario->sink == SIM_REGULAR)
		return sim_regular(sim, 0, O_RDWR | scenario->flags);
	if (scenario->sink == SIM_NULL)
		return sim_device(sim, SIM_NULL, O_WRONLY);
	fd = sim_sink(sim, scenario->sink, scenario->flags);
	object = sim_far(sim, fd);
	object->consumer.bytes_max = 30000;
	object->consumer.delay_ns = 0;
	object->queue_bytes_max = 30000;
	return fd;
}

static void drive(struct transfer *transfer, enum mode mode)
{
	while (!transfer->is_over) {
		switch (mode) {
		case BY_STEP:
			transfer_step(transfer);
			transfer_wait(transfer);
			break;
		case BY_BOUNDED_RUN:
			transfer_run(transfer, 1);
			break;
		default:
			transfer_run(transfer, -1);
			break;
		}
	}
}

/* Runs it from a new kernel to the end; the call fail_at fails unless that is 0. */
static struct transfer make(struct sim *sim, const struct scenario *scenario, uint64_t fail_at,
			    int error, bool sticky)
{
	struct transfer transfer = {
		.sim = sim,
		.source_kind = scenario->source,
		.sink_kind = scenario->sink,
		.available = BYTES,
		.faults = fail_at ? FAULT_INJECTED : 0,
		.options = {.flags = scenario->options,
			    .routes = scenario->routes,
			    .bytes_max = scenario->bytes_max},
	};

	sim_start(sim, 99, scenario->world);
	if (scenario->routes)
		transfer.faults |= FAULT_ROUTES;
	transfer.source = open_source(sim, scenario);
	transfer.sink = open_sink(sim, scenario);
	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &transfer.pool, NULL), 0);
	sim->fail_at = fail_at;
	sim->fail_error = -error;
	sim->fail_sticky = sticky;
	if (scenario->mode >= BY_COPY) {
		transfer_copy(&transfer, scenario->mode == BY_COPY);
	} else {
		if (transfer_begin(&transfer) == 0)
			drive(&transfer, scenario->mode);
		transfer_end(&transfer);
	}
	fid_pool_free(transfer.pool);
	sim_finish(sim);
	return transfer;
}

static const char *name_of(const struct scenario *scenario)
{
	static const char *const kinds[] = {"file", "pipe", "tcp", "unix", "terminal", "null"};
	static const char *const modes[] = {"step", "run", "bounded run", "copy",
					    "copy without a receipt"};
	static char text[160];

	snprintf(text, sizeof(text),
		 "%s to %s, flags %x, options %x, routes %x, limit %llu, %s",
		 kinds[scenario->source], kinds[scenario->sink], (unsigned)scenario->flags,
		 scenario->options, scenario->routes, (unsigned long long)scenario->bytes_max,
		 modes[scenario->mode]);
	return text;
}

#define EXPECT(condition, ...)                                                                 \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			test_note("%s, call %llu is %s and fails with %s:", name_of(scenario), \
				  (unsigned long long)fail_at, sim_call_name(call),            \
				  fid_error_name(error));                                      \
			FAIL(__VA_ARGS__);                                                     \
		}                                                                              \
	} while (0)

/* An I/O error ends the flow; afterwards nothing is read or written but what tells the side. */
static void check_final(const struct sim *sim, const struct scenario *scenario,
			const struct transfer *transfer, uint64_t fail_at, enum sim_call call,
			int error)
{
	const struct fid_receipt *receipt = &transfer->last;
	bool at_source = sim->fail_fd[0] == transfer->source;
	bool at_sink = sim->fail_fd[1] == transfer->sink;
	unsigned moves = 0;

	EXPECT(transfer->result == -error, "it returns %d", transfer->result);
	if (scenario->mode == BY_COPY_WITHOUT_RECEIPT)
		return;
	EXPECT(receipt->error == -error, "the receipt says %d", receipt->error);
	EXPECT(fid_call_name((enum fid_call)receipt->error_call) &&
		       strcmp(fid_call_name((enum fid_call)receipt->error_call),
			      sim_call_name(call)) == 0,
	       "the receipt names %s", fid_call_name((enum fid_call)receipt->error_call));
	if (at_source != at_sink)
		EXPECT(receipt->error_side == (at_source ? FID_SIDE_SOURCE : FID_SIDE_SINK),
		       "it is blamed on the %s",
		       fid_side_name((enum fid_side)receipt->error_side));
	else if (!at_source)
		EXPECT(receipt->error_side == FID_SIDE_FID, "it is blamed on the %s",
		       fid_side_name((enum fid_side)receipt->error_side));
	else if (error == ENOSPC || error == EPIPE || error == EDQUOT)
		EXPECT(receipt->error_side == FID_SIDE_SINK, "it is blamed on the %s",
		       fid_side_name((enum fid_side)receipt->error_side));
	else
		EXPECT(receipt->error_side != FID_SIDE_FID, "it is blamed on nobody's call");
	if (call == SIM_READ && sim->fail_bytes == 1)
		return;
	for (uint64_t i = fail_at; i < transfer->calls_at_end; i++)
		moves += moves_bytes((enum sim_call)sim->log[i]);
	EXPECT(moves <= (at_source && at_sink), "%u calls go on after it", moves);
}

static void check_run(const struct sim *sim, const struct scenario *scenario,
		      const struct transfer *transfer, uint64_t fail_at, enum sim_call call,
		      int error, bool sticky)
{
	bool is_moving = moves_bytes(call) && call != SIM_REFLINK;
	bool is_over = transfer->calls_at_end && fail_at > transfer->calls_at_end;

	/* After the end there is salvage, and what the pool closes. */
	if (is_over)
		return;
	/* A look at one byte of a file takes nothing, and what is wrong is met again. */
	if (call == SIM_READ && sim->fail_bytes == 1 && !sticky) {
		EXPECT(transfer->result == 0, "a look at one byte ends it with %d",
		       transfer->result);
		return;
	}
	if (is_moving && is_final(error)) {
		check_final(sim, scenario, transfer, fail_at, call, error);
		return;
	}
	/* What is left may not be enough, and what happens then is checked by transfer.c. */
	if (scenario->routes)
		return;
	switch (call) {
	case SIM_READ:
	case SIM_WRITE:
	case SIM_POLL:
		if (error == EINTR && sticky)
			return;
		if (error == EINTR || error == EAGAIN)
			break;
		return;
	case SIM_SPLICE:
	case SIM_SENDFILE:
	case SIM_COPY_FILE_RANGE:
		if (sticky && !is_refusal(error))
			return;
		break;
	case SIM_STAT:
	case SIM_STATUS_FLAGS:
	case SIM_MAP:
	case SIM_SEEK:
		return;
	default:
		break;
	}
	EXPECT(transfer->result == 0, "it ends with %d of %s, and other ways were left",
	       transfer->result, fid_call_name((enum fid_call)transfer->last.error_call));
}

/* Whether a call on these descriptors can answer so. */
static bool is_plausible(const struct scenario *scenario, enum sim_call call, int error,
			 bool sticky)
{
	if (error == EAGAIN)
		return scenario->flags & O_NONBLOCK && !sticky;
	return !(sticky && error == EINTR);
}

/* In what place a run without EAGAIN could have it: only calls on the caller's descriptors. */
static bool is_on_private_pipe_only(const struct sim *sim, const struct transfer *transfer)
{
	return sim->fail_fd[0] != transfer->source && sim->fail_fd[1] != transfer->sink;
}

static uint64_t fail_each_call(struct sim *sim, const struct scenario *scenario)
{
	static uint8_t clean[LOG];
	static uint8_t log[LOG];
	struct transfer transfer;
	uint64_t calls;
	uint64_t runs = 1;

	sim->log = clean;
	sim->log_size = LOG;
	transfer = make(sim, scenario, 0, 0, false);
	calls = sim->calls;
	CHECK(calls < LOG);
	if (!scenario->routes)
		CHECK_EQUAL(transfer.result, 0);
	sim->log = log;
	for (uint64_t fail_at = 1; fail_at <= calls; fail_at++) {
		enum sim_call call = (enum sim_call)clean[fail_at - 1];

		/* What could be sought before the clone can be sought after it. */
		if (call == SIM_SEEK && memchr(clean, SIM_REFLINK, fail_at))
			continue;
		for (int i = 0; errors[call][i]; i++) {
			for (int sticky = 0; sticky < 2; sticky++) {
				int error = errors[call][i];

				if (!is_plausible(scenario, call, error, sticky))
					continue;
				transfer = make(sim, scenario, fail_at, error, sticky);
				runs++;
				if (error == EAGAIN && is_on_private_pipe_only(sim, &transfer))
					continue;
				check_run(sim, scenario, &transfer, fail_at, call, error,
					  sticky);
			}
		}
	}
	sim->log = NULL;
	return runs;
}

static const enum sim_kind sources[] = {SIM_REGULAR, SIM_FIFO, SIM_TCP, SIM_UNIX, SIM_TERMINAL};
static const enum sim_kind sinks[] = {SIM_REGULAR, SIM_FIFO,     SIM_TCP,
				      SIM_UNIX,    SIM_TERMINAL, SIM_NULL};

enum {
	SOURCES = sizeof(sources) / sizeof(sources[0]),
	SINKS = sizeof(sinks) / sizeof(sinks[0])
};

/* Every pair of kinds, blocking and not. */
static void fail_all_pairs(struct scenario scenario)
{
	struct sim *sim = sim_new();
	uint64_t runs = 0;

	for (int a = 0; a < SOURCES; a++) {
		for (int b = 0; b < SINKS; b++) {
			scenario.source = sources[a];
			scenario.sink = sinks[b];
			scenario.flags = 0;
			runs += fail_each_call(sim, &scenario);
			scenario.flags = O_NONBLOCK;
			runs += fail_each_call(sim, &scenario);
		}
	}
	test_note("%llu runs, %llu kernel calls", (unsigned long long)runs,
		  (unsigned long long)sim->calls_ever);
	sim_free(sim);
}

static const struct sim_world stock = {.name = "stock"};
static const struct sim_world cloning = {.name = "with reflinks", .reflinks = true};
static const struct sim_world without_nosignal = {.name = "no RWF_NOSIGNAL",
						  .no_write_nosignal = true};

TEST(every_call_fails_in_steps)
{
	fail_all_pairs((struct scenario){.mode = BY_STEP, .world = &stock});
}

TEST(every_call_fails_in_a_run)
{
	fail_all_pairs((struct scenario){.mode = BY_RUN, .world = &without_nosignal});
}

TEST(every_call_fails_in_a_bounded_run)
{
	fail_all_pairs((struct scenario){.mode = BY_BOUNDED_RUN, .world = &stock});
}

TEST(every_call_fails_in_a_copy)
{
	fail_all_pairs((struct scenario){.mode = BY_COPY, .world = &stock});
}

TEST(every_call_fails_with_a_limit)
{
	fail_all_pairs((struct scenario){.mode = BY_STEP, .world = &stock, .bytes_max = LIMIT});
}

TEST(every_call_fails_in_a_small_copy)
{
	fail_all_pairs((struct scenario){
		.mode = BY_COPY, .world = &without_nosignal, .bytes_max = 5000});
}

TEST(every_call_fails_in_a_small_copy_without_a_receipt)
{
	fail_all_pairs((struct scenario){.mode = BY_COPY_WITHOUT_RECEIPT,
					 .world = &without_nosignal,
					 .bytes_max = 5000});
	fail_all_pairs((struct scenario){
		.mode = BY_COPY_WITHOUT_RECEIPT, .world = &stock, .bytes_max = 5000});
}

TEST(every_call_fails_without_waiting)
{
	fail_all_pairs(
		(struct scenario){.mode = BY_STEP, .world = &stock, .options = FID_NOWAIT});
}

TEST(every_call_fails_where_interruptions_are_told)
{
	fail_all_pairs((struct scenario){
		.mode = BY_STEP, .world = &stock, .options = FID_INTERRUPTIBLE});
}

TEST(every_call_fails_where_a_stable_copy_is_asked_for)
{
	fail_all_pairs(
		(struct scenario){.mode = BY_STEP, .world = &stock, .options = FID_STABLE});
}

TEST(every_call_fails_where_files_are_cloned)
{
	fail_all_pairs((struct scenario){.mode = BY_STEP, .world = &cloning});
}

TEST(every_call_fails_on_each_route_alone)
{
	for (int method = 0; method < FID_ROUTES; method++)
		fail_all_pairs((struct scenario){
			.mode = BY_STEP, .world = &cloning, .routes = FID_ROUTE(method)});
}
