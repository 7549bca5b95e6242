/* SPDX-License-Identifier: MIT */
/*
 * splice, tee and vmsplice in the simulated kernel answer as the real ones do: what they say of
 * wrong arguments, what they look at first, what they wait for.
 */
#include "both.h"
#include "test.h"

#include <signal.h>
#include <sys/time.h>

/* What the three calls say of arguments that are wrong, and in which order they look. */
TEST(wrong_arguments_have_the_same_answers)
{
	both_run((const struct step[]){
		{WRITE, PIPE_IN, 0, 100, OWN, OWN, 0},
		{TEE, NOTHING, FULL_IN, 0, OWN, OWN, 0},
		{TEE, NOTHING, NOTHING, 0, OWN, OWN, 0x10},
		{TEE, NOTHING, FULL_IN, 10, OWN, OWN, 0},
		{TEE, PIPE_OUT, NOTHING, 10, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0x10},
		{TEE, PIPE_OUT, PIPE_IN, 10, OWN, OWN, 0},
		{TEE, PIPE_IN, FULL_IN, 10, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_OUT, 10, OWN, OWN, 0},
		{TEE, FILE_A, FULL_IN, 10, OWN, OWN, 0},
		{TEE, SOCKET_A, FULL_IN, 10, OWN, OWN, 0},
		{TEE, PIPE_OUT, SOCKET_A, 10, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_IN, 10, OWN, OWN, SPLICE_F_GIFT | SPLICE_F_MOVE},
		{SPLICE, NOTHING, NOTHING, 0, OWN, OWN, 0},
		{SPLICE, NOTHING, NOTHING, 0, OWN, OWN, 0x10},
		{SPLICE, NOTHING, FULL_IN, 10, OWN, OWN, 0x10},
		{SPLICE, NOTHING, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, NOTHING, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, PIPE_IN, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, SOCKET_A, 10, OWN, 0, 0},
		{SPLICE, PIPE_OUT, TERMINAL, 10, OWN, 0, 0},
		{SPLICE, SOCKET_A, PIPE_IN, 10, 0, OWN, 0},
		{SPLICE, TERMINAL, PIPE_IN, 10, 0, OWN, 0},
		{SPLICE, PIPE_OUT, FILE_B, 10, 0, 0, 0},
		{SPLICE, PIPE_OUT, PIPE_IN, 10, OWN, 0, 0},
		{SPLICE, SOCKET_A, PIPE_IN, 10, OWN, 0, 0},
		{SPLICE, PIPE_OUT, FOLDER, 10, OWN, OWN, 0},
		{SPLICE, SOCKET_A, SOCKET_B, 10, OWN, OWN, 0},
		{VMSPLICE, NOTHING, 0, 10, OWN, OWN, 0x10},
		{VMSPLICE, NOTHING, 0, 10, OWN, OWN, 0},
		{VMSPLICE, NOTHING, 0, 0, OWN, OWN, 0},
		{VMSPLICE, FILE_A, 0, 10, OWN, OWN, 0},
		{VMSPLICE, FILE_A, 0, 0, OWN, OWN, 0},
		{VMSPLICE, SOCKET_A, 0, 10, OWN, OWN, 0},
		{VMSPLICE, FULL_IN, 0, 0, OWN, OWN, 0},
		{VMSPLICE, FULL_IN, 0, 10, OWN, OWN, 0x10},
		{SEGMENTS, FULL_IN, 0, 10, 0, OWN, 0},
		{SEGMENTS, FULL_IN, 0, 0, 5, OWN, 0},
		{SEGMENTS, FILE_A, 0, 10, 0, OWN, 0},
		{SEGMENTS, FULL_IN, 0, 10, 1025, OWN, 0},
		{SEGMENTS, FILE_A, 0, 10, 1025, OWN, 0},
		{SEGMENTS, NOTHING, 0, 10, 1025, OWN, 0},
		{SEGMENTS, FULL_IN, 0, -1, 1, OWN, 0},
		{SEGMENTS, FULL_IN, 0, 10, 1024, OWN, NB},
		{READ, FULL_OUT, 0, 1 << 17, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 1 << 17, OWN, OWN, 0},
		{0},
	});
}

TEST(vmsplice_fills_pipes_and_memory_by_slots_and_segments)
{
	both_run((const struct step[]){
		{VMSPLICE, PIPE_IN, 0, 100000, OWN, OWN, NB},
		{VMSPLICE, PIPE_IN, 0, 100000, OWN, OWN, NB},
		{POLL, PIPE_IN, 0, 0, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 4096, OWN, OWN, 0},
		{VMSPLICE, PIPE_IN, 0, 100000, OWN, OWN, NB | SPLICE_F_GIFT},
		{READ, PIPE_OUT, 0, 100000, OWN, OWN, 0},
		{SEGMENTS, PIPE_IN, 0, 100, 50, OWN, NB},
		{VMSPLICE, PIPE_OUT, 0, 150, OWN, OWN, NB},
		{SEGMENTS, PIPE_OUT, 0, 200, 6, OWN, NB},
		{SEGMENTS, PIPE_OUT, 0, 0, 6, OWN, NB},
		{SEGMENTS, PIPE_OUT, 0, 4096, 5, OWN, NB},
		{SEGMENTS, PIPE_OUT, 0, 200, 6, OWN, NB},
		/* It waits for the first slot alone, and never for O_NONBLOCK's sake. */
		{VMSPLICE, WAIT_IN, 0, 100000, OWN, OWN, 0},
		{VMSPLICE, WAIT_IN, 0, 1, OWN, OWN, NB},
		{SEGMENTS, WAIT_OUT, 0, 30000, 1000, OWN, 0},
		{VMSPLICE, WAIT_OUT, 0, 10, OWN, OWN, NB},
		{VMSPLICE, PIPE_IN, 0, 5000, OWN, OWN, 0},
		{TEE, PIPE_OUT, WAIT_IN, 3000, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, WAIT_IN, 4500, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, FILE_B, 6000, OWN, OWN, 0},
		{CLOSE, WAIT_OUT, 0, 0, OWN, OWN, 0},
		{VMSPLICE, WAIT_IN, 0, 10, OWN, OWN, 0},
		{VMSPLICE, WAIT_IN, 0, 10, OWN, OWN, NB},
		{VMSPLICE, WAIT_IN, 0, 0, OWN, OWN, 0},
		{VMSPLICE, PIPE_OUT, 0, 5000, OWN, OWN, 0},
		{CLOSE, PIPE_IN, 0, 0, OWN, OWN, 0},
		{VMSPLICE, PIPE_OUT, 0, 10, OWN, OWN, 0},
		{SEGMENTS, PIPE_OUT, 0, 10, 5, OWN, NB},
		{0},
	});
}

TEST(tee_and_splice_look_at_the_source_then_at_the_sink)
{
	both_run((const struct step[]){
		/* An empty source, a full sink, nobody at either end. */
		{WRITE, FULL_IN, 0, 100000, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{CLOSE, PIPE_IN, 0, 0, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{READ, FULL_OUT, 0, 5000, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		/* O_NONBLOCK of either end counts for a pipe that waits. */
		{TEE, WAIT_OUT, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, FULL_IN, 10, OWN, OWN, 0},
		{TEE, FULL_OUT, WAIT_IN, 100000, OWN, OWN, 0},
		{TEE, FULL_OUT, WAIT_IN, 100000, OWN, OWN, 0},
		{TEE, FULL_OUT, WAIT_IN, 100000, OWN, OWN, 0},
		{SPLICE, FULL_OUT, WAIT_IN, 100000, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, SOCKET_A, 100, OWN, OWN, 0},
		{CLOSE, FULL_OUT, 0, 0, OWN, OWN, 0},
		{TEE, WAIT_OUT, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, FULL_IN, 10, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{0},
	});
}

TEST(a_look_into_a_socket_takes_nothing)
{
	both_run((const struct step[]){
		{PEEK, SOCKET_A, 0, 10, OWN, OWN, 0},
		{SEND, SOCKET_B, 0, 100, OWN, OWN, 0},
		{SEND, SOCKET_B, 0, 200, OWN, OWN, 0},
		{PEEK, SOCKET_A, 0, 50, OWN, OWN, 0},
		{PEEK, SOCKET_A, 0, 0, OWN, OWN, 0},
		{PEEK, SOCKET_A, 0, 100, OWN, OWN, 0},
		{READ, SOCKET_A, 0, 30, OWN, OWN, 0},
		{PEEK, SOCKET_A, 0, 50, OWN, OWN, 0},
		{PEEK, PIPE_OUT, 0, 10, OWN, OWN, 0},
		{PEEK, FILE_A, 0, 10, OWN, OWN, 0},
		{PEEK, NOTHING, 0, 10, OWN, OWN, 0},
		{CLOSE, SOCKET_B, 0, 0, OWN, OWN, 0},
		{PEEK, SOCKET_A, 0, 20, OWN, OWN, 0},
		{READ, SOCKET_A, 0, 1000, OWN, OWN, 0},
		{PEEK, SOCKET_A, 0, 20, OWN, OWN, 0},
		{READ, SOCKET_A, 0, 20, OWN, OWN, 0},
		{0},
	});
}

static void woken(int signal)
{
}

/*
 * Each call is -EINTR if it sleeps: a signal comes every few milliseconds, here as there, so
 * that one of them comes while it does.
 */
static void run_interrupted(const struct step *steps)
{
	const struct itimerval often = {{0, 5000}, {0, 5000}}, never = {{0, 0}, {0, 0}};
	struct both *both = both_new(7);
	int somebody;

	CHECK(sigaction(SIGALRM, &(struct sigaction){.sa_handler = woken}, NULL) == 0);
	both->sim->world.signal_every_ns = 1000000;
	both->sim->signal_ns = both->sim->now_ns;
	/* Somebody will act some day: to sleep until then is not a deadlock. */
	somebody = sim_source(both->sim, SIM_TCP, 0, 1, SIM_END_IDLE);
	sim_object(both->sim, somebody)->producer.next_ns = SIM_NEVER - 1;
	CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
	for (unsigned i = 0; steps[i].what != END; i++)
		both_compare(both, &steps[i], i + 1);
	CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
	both_free(both);
}

TEST(the_same_calls_sleep)
{
	run_interrupted((const struct step[]){
		{SPLICE, WAIT_OUT, FILE_B, 10, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, NULL_DEVICE, 10, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, SOCKET_A, 10, OWN, OWN, 0},
		{VMSPLICE, WAIT_OUT, 0, 10, OWN, OWN, 0},
		/* O_NONBLOCK does not keep vmsplice from it, at either end. */
		{VMSPLICE, PIPE_OUT, 0, 10, OWN, OWN, 0},
		{VMSPLICE, PIPE_IN, 0, 100000, OWN, OWN, 0},
		{VMSPLICE, PIPE_IN, 0, 10, OWN, OWN, 0},
		{VMSPLICE, PIPE_IN, 0, 10, OWN, OWN, NB},
		{VMSPLICE, WAIT_IN, 0, 100000, OWN, OWN, 0},
		{VMSPLICE, WAIT_IN, 0, 10, OWN, OWN, 0},
		{SPLICE, FILE_A, WAIT_IN, 10, OWN, OWN, 0},
		{SPLICE, FILE_A, WAIT_IN, 10, OWN, OWN, NB},
		{SPLICE, FILE_A, PIPE_IN, 10, OWN, OWN, 0},
		{SENDFILE, FILE_A, WAIT_IN, 10, OWN, OWN, 0},
		{TEE, PIPE_OUT, WAIT_IN, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, WAIT_IN, 10, OWN, OWN, 0},
		{TEE, WAIT_OUT, PIPE_IN, 10, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, PIPE_IN, 10, OWN, OWN, 0},
		{0},
	});
}
