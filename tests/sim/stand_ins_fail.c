/* SPDX-License-Identifier: MIT */
/*
 * Each call to the kernel that the three calls make fails, once or from then on, with each
 * errno value that is plausible for it. What had moved is told, what had not is where it was,
 * and a program that calls again after a failure that passes gets every byte.
 */
#include "pour.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { BYTES = 9011, CALLS_MAX = 2000 };

static const struct sim_world worlds[] = {
	{.name = "stock"},
	{.name = "splice is EPERM", .splice = -EPERM, .vmsplice = -ENOSYS},
	{.name = "all are ENOSYS", .splice = -ENOSYS, .tee = -ENOSYS, .vmsplice = -ENOSYS},
	{.name = "GIFT is refused", .vmsplice_gift = -EOPNOTSUPP, .tee = -EPERM},
};

enum { WORLDS = sizeof(worlds) / sizeof(worlds[0]) };

/* Errno values by call, ended by 0. */
static const int errors[SIM_CALLS][12] = {
	[SIM_READ] = {EINTR, EIO, ECONNRESET, ENOMEM},
	[SIM_WRITE] = {EINTR, EIO, ENOSPC, EPIPE, EDQUOT, ENOMEM},
	[SIM_SPLICE] = {EPERM, ENOSYS, EOPNOTSUPP, EINTR, ENOMEM, EIO, EPIPE, EINVAL},
	[SIM_TEE] = {EPERM, ENOSYS, EOPNOTSUPP, EINTR, ENOMEM},
	[SIM_VMSPLICE] = {EPERM, ENOSYS, EOPNOTSUPP, EINTR, ENOMEM, EPIPE, EFAULT},
	[SIM_PEEK] = {EINTR, ENOMEM, ECONNRESET},
	[SIM_STAT] = {EIO, EPERM, ENOSYS},
	[SIM_STATUS_FLAGS] = {EPERM, ENOSYS},
	[SIM_SOCKET] = {EPERM, ENOSYS},
	[SIM_PIPE] = {EMFILE, ENFILE, EPERM, ENOMEM},
	[SIM_PIPE_RESIZE] = {EPERM, ENOMEM},
	[SIM_PIPE_SIZE] = {EPERM},
	[SIM_CLOSE] = {EIO, EINTR},
	[SIM_POLL] = {EINTR, ENOMEM},
	[SIM_MAP] = {ENOMEM},
};

/*
 * What was looked at is read then to be forgotten. It is there, and nobody else reads: no error
 * but an interruption can come, and that only in theory.
 */
static bool forgets(const struct pour *one)
{
	const struct sim *sim = one->sim;

	if (sim->fail_call != SIM_READ || sim->fail_fd[0] != one->source)
		return false;
	if (one->source_kind == SIM_TCP || one->source_kind == SIM_UNIX)
		return true;
	return one->source_kind == SIM_FIFO && !sim->world.tee;
}

/*
 * Where the kernel does not tell what kind of socket it is, the call may wait as for any other
 * than a unix one.
 */
static bool hides_the_kind(const struct pour *one)
{
	return one->sim->fail_call == SIM_SOCKET && one->source_kind == SIM_UNIX &&
	       one->source_waits && one->flags & SPLICE_F_NONBLOCK;
}

static bool is_plausible(const struct pour *one, int error)
{
	return !hides_the_kind(one) && (!forgets(one) || error == EINTR);
}

static void fail_one(struct pour *one, int error, bool sticky)
{
	one->fail_error = error;
	one->fail_sticky = sticky;
	pour(one);
	if (!sticky && one->last < 0 && !pour_may_be_refused(one)) {
		char text[256];

		pour_describe(one, text, sizeof(text));
		FAIL("%s: it ended with %zd", text, one->last);
	}
}

/* Returns how many failures there were to try. */
static uint64_t fail_each(struct pour *one)
{
	uint64_t count = 0;

	for (one->fail_at = 1; one->fail_at < CALLS_MAX; one->fail_at++) {
		enum sim_call call;
		bool plausible[12];

		/* Which call is it? */
		one->sim->fail_call = SIM_NONE;
		one->fail_error = 0;
		one->fail_sticky = false;
		pour(one);
		call = one->sim->fail_call;
		if (call == SIM_NONE)
			break;
		for (int i = 0; errors[call][i]; i++)
			plausible[i] = is_plausible(one, errors[call][i]);
		for (int i = 0; errors[call][i]; i++) {
			if (!plausible[i])
				continue;
			fail_one(one, errors[call][i], false);
			count++;
			/* Interrupted for ever it would be tried for ever. */
			if (errors[call][i] == EINTR)
				continue;
			fail_one(one, errors[call][i], true);
			count++;
		}
	}
	CHECK(one->fail_at < CALLS_MAX);
	return count;
}

static void fail_all(enum pour_call call, const enum sim_kind pairs[][2], unsigned pair_count)
{
	static const unsigned flags[] = {0, FID_NOSIGNAL | SPLICE_F_NONBLOCK | SPLICE_F_GIFT};
	struct sim *sim = sim_new();
	uint64_t count = 0, seed = test_seed();

	for (unsigned world = 0; world < WORLDS; world++)
		for (unsigned pair = 0; pair < pair_count; pair++)
			for (unsigned way = 0; way < 4; way++) {
				struct pour one = {
					.sim = sim,
					.call = call,
					.world = &worlds[world],
					.source_kind = pairs[pair][0],
					.sink_kind = pairs[pair][1],
					.source_waits = way & 1,
					.sink_waits = way & 1,
					.offsets = way & 1,
					.flags = flags[way / 2],
					.bytes = BYTES,
					.call_max = 20000,
					.sink_dies_after = SIM_NEVER,
					.seed = ++seed,
				};

				count += fail_each(&one);
			}
	test_note("%llu failures", (unsigned long long)count);
	sim_free(sim);
}

static const enum sim_kind from_files[][2] = {{SIM_REGULAR, SIM_FIFO}};
static const enum sim_kind from_pipes[][2] = {{SIM_FIFO, SIM_FIFO}, {SIM_FIFO, SIM_REGULAR},
					      {SIM_FIFO, SIM_TCP},  {SIM_FIFO, SIM_UNIX},
					      {SIM_FIFO, SIM_NULL}, {SIM_FIFO, SIM_TERMINAL}};
static const enum sim_kind from_sockets[][2] = {{SIM_TCP, SIM_FIFO}, {SIM_UNIX, SIM_FIFO}};
static const enum sim_kind from_terminals[][2] = {{SIM_TERMINAL, SIM_FIFO}};
static const enum sim_kind between_pipes[][2] = {{SIM_FIFO, SIM_FIFO}};
static const enum sim_kind from_memory[][2] = {{SIM_NULL, SIM_FIFO}};
static const enum sim_kind to_memory[][2] = {{SIM_FIFO, SIM_NULL}};

TEST(every_call_of_splice_from_a_file_fails)
{
	fail_all(POUR_SPLICE, from_files, 1);
}

TEST(every_call_of_splice_from_a_pipe_fails)
{
	fail_all(POUR_SPLICE, from_pipes, 6);
}

TEST(every_call_of_splice_from_a_socket_fails)
{
	fail_all(POUR_SPLICE, from_sockets, 2);
}

TEST(every_call_of_splice_from_a_terminal_fails)
{
	fail_all(POUR_SPLICE, from_terminals, 1);
}

TEST(every_call_of_tee_fails)
{
	fail_all(POUR_TEE, between_pipes, 1);
}

TEST(every_call_of_a_stash_that_splices_fails)
{
	fail_all(POUR_STASH_SPLICE, from_pipes, 6);
	fail_all(POUR_STASH_SPLICE, from_sockets, 2);
	fail_all(POUR_STASH_SPLICE, from_terminals, 1);
}

TEST(every_call_of_a_stash_that_tees_fails)
{
	fail_all(POUR_STASH_TEE, between_pipes, 1);
}

TEST(every_call_of_vmsplice_fails)
{
	fail_all(POUR_VMSPLICE_IN, from_memory, 1);
	fail_all(POUR_VMSPLICE_OUT, to_memory, 1);
}
