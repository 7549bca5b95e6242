/* SPDX-License-Identifier: MIT */
/*
 * One call at a time between ends in every state: what a stand-in answers is what the kernel's
 * own call answers where it is allowed. It may move fewer bytes or return the refusal, and
 * differs in nothing else: whether it sleeps, which error, which offsets, which signal.
 */
#include "calls.h"
#include "pipe/calls.h"
#include "sim.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

enum source_state { EMPTY, ENDED, SOME, MANY, SOURCE_STATES };
enum sink_state { ROOM, FULL, DEAD, SINK_STATES };
enum call { SPLICE, STASH_SPLICE, STASH_TEE, VMSPLICE_IN, VMSPLICE_OUT, CALLS };

struct question {
	enum call call;
	enum sim_kind source;
	enum sim_kind sink;
	enum source_state source_state;
	enum sink_state sink_state;
	int source_flags;
	int sink_flags;
	bool source_offset;
	bool sink_offset;
	unsigned flags;
	size_t bytes;
	bool same_pipe;
};

struct answer {
	bool sleeps;
	ssize_t result;
	uint64_t signals;
	int64_t source_moved;
	int64_t sink_moved;
	uint64_t taken;
	uint64_t received;
	size_t stashed;
};

static bool is_refusal(ssize_t result)
{
	return result == -EPERM || result == -ENOSYS || result == -EOPNOTSUPP;
}

/* ---- Ends in a state, where nobody does anything any more ---- */

static int open_source(struct sim *sim, const struct question *question)
{
	static const uint64_t bytes[SOURCE_STATES] = {0, 0, 3000, 60000};
	uint64_t size = bytes[question->source_state];
	struct sim_object *object;
	int fd;

	if (question->source == SIM_REGULAR)
		return sim_regular(sim, size, O_RDONLY | question->source_flags);
	if (question->source == SIM_NULL)
		return sim_device(sim, SIM_NULL, O_RDONLY | question->source_flags);
	fd = sim_source(sim, question->source, question->source_flags, size,
			question->source_state == ENDED ? SIM_END_CLOSE : SIM_END_IDLE);
	object = sim_object(sim, fd);
	object->queue_bytes_max = 100000;
	sim_settle(sim);
	return fd;
}

static void fill(struct sim *sim, int fd)
{
	static unsigned char bytes[1 << 16];
	int *flags = &sim->fd[fd - SIM_FD_FIRST].flags;
	int before = *flags;

	*flags |= O_NONBLOCK;
	while (sim->kernel.write(&sim->kernel, fd, bytes, sizeof(bytes), FID_OWN_OFFSET, 0) > 0)
		;
	*flags = before;
}

static int open_sink(struct sim *sim, const struct question *question)
{
	struct sim_object *far;
	int fd;

	if (question->sink == SIM_REGULAR)
		return sim_regular(sim, 100, O_RDWR | question->sink_flags);
	if (question->sink == SIM_NULL)
		return sim_device(sim, SIM_NULL, O_WRONLY | question->sink_flags);
	fd = sim_sink(sim, question->sink, question->sink_flags);
	far = sim_far(sim, fd);
	far->consumer.is_there = false;
	far->consumer.next_ns = SIM_NEVER;
	if (question->sink_state == FULL)
		fill(sim, fd);
	if (question->sink_state == DEAD && question->sink == SIM_FIFO)
		far->readers = 0;
	else if (question->sink_state == DEAD)
		sim_object(sim, fd)->read_shut = true;
	return fd;
}

/* ---- One answer ---- */

static uint64_t left_in(struct sim *sim, int fd)
{
	const struct sim_object *object = sim_object(sim, fd);

	return object->kind == SIM_REGULAR ? 0 - sim->fd[fd - SIM_FD_FIRST].offset
					   : object->ring.bytes;
}

static uint64_t put_into(struct sim *sim, int fd)
{
	const struct sim_object *object = sim_far(sim, fd);

	return object->kind == SIM_REGULAR ? sim->fd[fd - SIM_FD_FIRST].offset
					   : object->ring.bytes;
}

static struct answer ask(struct sim *sim, const struct sim_world *world,
			 const struct question *question)
{
	static _Alignas(SIM_PAGE) unsigned char memory[1 << 17];
	struct fid_pool_options options = {.size = sizeof(options)};
	struct fid_kernel *kernel = &sim->kernel;
	static struct answer answer; /* outlives the jump */
	static struct fid_pool *pool;
	static struct fid_stash *stash;
	static int source, sink;
	int64_t from = 50, to = 70;
	struct iovec segment = {.iov_base = memory, .iov_len = question->bytes};
	uint64_t before_source, before_sink;
	jmp_buf asleep;

	if (segment.iov_len > sizeof(memory))
		segment.iov_len = sizeof(memory);
	answer = (struct answer){0};
	stash = NULL;
	sim_start(sim, 11, world);
	sim->takes_sigpipe = true;
	sim->may_sleep_on_shared = true;
	source = open_source(sim, question);
	sink = open_sink(sim, question);
	if (question->same_pipe)
		sink = sim_reopen(sim, source, O_WRONLY | question->sink_flags);
	CHECK_EQUAL(fid_pool_new_on(kernel, &pool, &options), 0);
	if (question->call == STASH_SPLICE || question->call == STASH_TEE)
		CHECK_EQUAL(fid_stash_new_on(kernel, pool, &stash, source), 0);
	before_source = left_in(sim, source);
	before_sink = put_into(sim, sink);
	sim->sigpipes = 0;
	sim->idle_calls = 0;
	sim->catch = &asleep;
	if (setjmp(asleep) == 0) {
		switch (question->call) {
		case SPLICE:
			answer.result = fid_splice_on(kernel, pool, source,
						      question->source_offset ? &from : NULL,
						      sink, question->sink_offset ? &to : NULL,
						      question->bytes, question->flags);
			break;
		case STASH_SPLICE:
			answer.result = fid_stash_splice(stash, sink,
							 question->sink_offset ? &to : NULL,
							 question->bytes, question->flags);
			break;
		case STASH_TEE:
			answer.result =
				fid_stash_tee(stash, sink, question->bytes, question->flags);
			break;
		case VMSPLICE_IN:
			answer.result =
				fid_vmsplice_on(kernel, sink, &segment, 1, question->flags);
			break;
		default:
			answer.result =
				fid_vmsplice_on(kernel, source, &segment, 1, question->flags);
			break;
		}
		sim->catch = NULL;
		answer.source_moved = from - 50;
		answer.sink_moved = to - 70;
		answer.taken = before_source - left_in(sim, source);
		answer.received = put_into(sim, sink) - before_sink;
		answer.stashed = stash ? fid_stash_bytes(stash) : 0;
	} else {
		sim->catch = NULL;
		answer.sleeps = strncmp(sim->failure, "deadlock", 8) == 0;
		if (!answer.sleeps)
			FAIL("%s", sim->failure);
	}
	answer.signals = sim->sigpipes;
	fid_stash_free(stash);
	fid_pool_free(pool);
	return answer;
}

/* ---- Alike or not ---- */

static const char *difference(const struct question *question, const struct answer *own,
			      const struct answer *other)
{
	bool is_stash = question->call == STASH_SPLICE || question->call == STASH_TEE;

	if (!other->sleeps && is_refusal(other->result)) {
		if (is_stash || question->call == VMSPLICE_IN || question->call == VMSPLICE_OUT)
			return "it is refused, and there is a way";
		return other->taken || other->received || other->signals
			       ? "it is refused, and something happened"
			       : NULL;
	}
	/*
	 * Where the source has ended the kernel may wait for a full pipe first, or notice that
	 * a sink is dead. With nothing to write a stash need not.
	 */
	if (question->source_state == ENDED && question->sink_state != ROOM && is_stash &&
	    !other->sleeps && other->result == 0)
		return NULL;
	if (own->sleeps != other->sleeps)
		return other->sleeps ? "it sleeps" : "it does not sleep";
	if (own->sleeps)
		return NULL;
	if (own->result <= 0 && other->result != own->result)
		return "the answer is another";
	if (own->result > 0 && (other->result <= 0 || other->result > own->result))
		return "the answer is another";
	if (other->signals > own->signals)
		return "it raises SIGPIPE";
	/* Without a byte to write nothing raises it. */
	if (other->signals < own->signals && question->source_state >= SOME &&
	    question->source != SIM_NULL && question->source != SIM_TERMINAL)
		return "it raises no SIGPIPE";
	if (question->source_offset &&
	    other->source_moved != (own->result > 0 ? other->result : 0))
		return "the source's offset is another";
	if (question->sink_offset && other->sink_moved != (own->result > 0 ? other->result : 0))
		return "the sink's offset is another";
	return NULL;
}

static void compare(struct sim *sim, const struct question *question)
{
	static const struct sim_world allows = {.name = "stock"};
	static const struct sim_world refuses[] = {
		{.name = "splice is EPERM", .splice = -EPERM, .vmsplice = -EPERM},
		{.name = "all are ENOSYS",
		 .splice = -ENOSYS,
		 .tee = -ENOSYS,
		 .vmsplice = -ENOSYS},
		{.name = "all are EOPNOTSUPP",
		 .splice = -EOPNOTSUPP,
		 .tee = -EOPNOTSUPP,
		 .vmsplice = -EOPNOTSUPP,
		 .no_write_nosignal = true},
	};
	static const char *const calls[CALLS] = {"splice", "stash splice", "stash tee",
						 "vmsplice in", "vmsplice out"};
	struct answer own = ask(sim, &allows, question);

	for (unsigned i = 0; i < sizeof(refuses) / sizeof(refuses[0]); i++) {
		struct answer other = ask(sim, &refuses[i], question);
		const char *what = difference(question, &own, &other);

		if (!what)
			continue;
		FAIL("%s where %s: %s from kind %d state %d flags %o%s to kind %d state %d "
		     "flags %o%s%s, %zu bytes, flags %x: %s%zd with %llu signals, and the "
		     "kernel %s%zd with %llu",
		     what, refuses[i].name, calls[question->call], question->source,
		     question->source_state, question->source_flags,
		     question->source_offset ? " offset" : "", question->sink,
		     question->sink_state, question->sink_flags,
		     question->sink_offset ? " offset" : "",
		     question->same_pipe ? " same pipe" : "", question->bytes, question->flags,
		     other.sleeps ? "sleeps, " : "", other.result,
		     (unsigned long long)other.signals, own.sleeps ? "sleeps, " : "",
		     own.result, (unsigned long long)own.signals);
	}
}

static const enum sim_kind kinds[] = {SIM_REGULAR, SIM_FIFO,     SIM_TCP,
				      SIM_UNIX,    SIM_TERMINAL, SIM_NULL};
enum { KINDS = 6 };

static bool has_states(enum sim_kind kind)
{
	return kind != SIM_REGULAR && kind != SIM_NULL;
}

static uint64_t each_way(struct sim *sim, struct question question)
{
	static const unsigned flags[] = {0, SPLICE_F_NONBLOCK, FID_NOSIGNAL,
					 FID_NOSIGNAL | SPLICE_F_NONBLOCK, 0x40};
	static const size_t bytes[] = {0, 1, 5000, 200000, SIZE_MAX};
	int ways = question.call == SPLICE ? 16 : question.call == STASH_SPLICE ? 8 : 4;
	uint64_t count = 0;

	for (int way = 0; way < ways; way++)
		for (int flag = 0; flag < 5; flag++)
			for (int size = 0; size < 5; size++, count++) {
				question.source_flags = way & 1 ? O_NONBLOCK : 0;
				question.sink_flags = way & 2 ? O_NONBLOCK : 0;
				question.sink_offset = way & 4;
				question.source_offset = way & 8;
				question.flags = flags[flag];
				question.bytes = bytes[size];
				compare(sim, &question);
			}
	return count;
}

static void each_state(enum call call)
{
	struct sim *sim = sim_new();
	uint64_t count = 0;

	for (int pair = 0; pair < KINDS * KINDS; pair++) {
		struct question question = {.call = call,
					    .source = kinds[pair / KINDS],
					    .sink = kinds[pair % KINDS]};
		bool is_stream = has_states(question.source);

		if (call != SPLICE && !is_stream)
			continue;
		if ((call >= VMSPLICE_IN &&
		     (question.source != SIM_FIFO || question.sink != SIM_FIFO)) ||
		    (call == STASH_TEE && question.source != SIM_FIFO))
			continue;
		for (int state = 0; state < SOURCE_STATES * SINK_STATES; state++) {
			question.source_state = state / SINK_STATES;
			question.sink_state = state % SINK_STATES;
			if (!has_states(question.sink) && question.sink_state)
				continue;
			if (!is_stream && question.source_state == EMPTY)
				continue;
			count += each_way(sim, question);
		}
	}
	test_note("%llu calls", (unsigned long long)count);
	sim_free(sim);
}

TEST(a_splice_that_is_refused_answers_alike)
{
	each_state(SPLICE);
}

TEST(a_stash_that_splices_answers_alike)
{
	each_state(STASH_SPLICE);
}

TEST(a_stash_that_tees_answers_alike)
{
	each_state(STASH_TEE);
}

TEST(vmsplice_into_a_pipe_answers_alike)
{
	each_state(VMSPLICE_IN);
}

TEST(vmsplice_out_of_a_pipe_answers_alike)
{
	each_state(VMSPLICE_OUT);
}

TEST(a_pipe_into_itself_is_einval_everywhere)
{
	struct sim *sim = sim_new();

	for (int call = SPLICE; call <= STASH_TEE; call++) {
		struct question question = {.call = call,
					    .source = SIM_FIFO,
					    .sink = SIM_NULL,
					    .source_state = SOME,
					    .same_pipe = true,
					    .bytes = 100};

		compare(sim, &question);
	}
	sim_free(sim);
}

/* Lengths that no memory has: what a pipe has room for is taken, and no length wraps around. */
TEST(vmsplice_takes_lengths_up_to_ssize_max)
{
	static _Alignas(SIM_PAGE) unsigned char memory[1 << 17];
	static struct iovec segments[1500];
	static const struct sim_world worlds[] = {{.name = "stock"}, {.vmsplice = -ENOSYS}};
	struct sim *sim = sim_new();

	for (int world = 0; world < 2; world++)
		for (size_t count = 1; count <= 1500; count += 1499) {
			int ends[2];

			for (size_t i = 0; i < count; i++)
				segments[i] = (struct iovec){memory, 0};
			sim_start(sim, 3, &worlds[world]);
			sim_pipe_pair(sim, ends, O_NONBLOCK);
			segments[0].iov_len = SSIZE_MAX;
			segments[count - 1].iov_len = SSIZE_MAX;
			CHECK_EQUAL(fid_vmsplice_on(&sim->kernel, ends[1], segments, count,
						    SPLICE_F_NONBLOCK),
				    SIM_SLOTS * SIM_PAGE);
			CHECK_EQUAL(fid_vmsplice_on(&sim->kernel, ends[1], segments, count,
						    SPLICE_F_NONBLOCK),
				    -EAGAIN);
			segments[count - 1].iov_len = (size_t)SSIZE_MAX + 1;
			CHECK_EQUAL(fid_vmsplice_on(&sim->kernel, ends[1], segments, count,
						    SPLICE_F_NONBLOCK),
				    -EINVAL);
			CHECK_EQUAL(sim_object(sim, ends[0])->ring.bytes, SIM_SLOTS * SIM_PAGE);
			CHECK_EQUAL(fid_vmsplice_on(&sim->kernel, ends[1], segments, 0, 0), 0);
		}
	sim_free(sim);
}
