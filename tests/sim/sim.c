/* SPDX-License-Identifier: MIT */
/*
 * The life of a simulated kernel, and where its judgements go.
 */
#include "calls.h"

#include "test.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t sim_random(struct sim *sim)
{
	return test_random(&sim->random);
}

const char *sim_call_name(enum sim_call call)
{
	static const char *const names[SIM_CALLS] = {
		"nothing",
		"read",
		"write",
		"splice",
		"tee",
		"vmsplice",
		"sendfile",
		"copy_file_range",
		"reflink",
		"stat",
		"status_flags",
		"socket",
		"socket_error",
		"is_terminal",
		"file_system",
		"seek",
		"pipe",
		"pipe_resize",
		"pipe_size",
		"close",
		"poll",
		"map",
		"discard",
		"peek",
		"slab_map",
		"slab_is_huge",
		"memory_file",
		"memory_file_map",
		"memory_file_seal",
	};

	return call < SIM_CALLS && names[call] ? names[call] : "unknown";
}

void sim_fail(struct sim *sim, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(sim->failure, sizeof(sim->failure), format, arguments);
	va_end(arguments);
	if (sim->catch)
		longjmp(*sim->catch, 1);
	test_note("the simulated kernel \"%s\" with seed %llu, at call %llu:",
		  sim->world.name ? sim->world.name : "stock", (unsigned long long)sim->seed,
		  (unsigned long long)sim->calls);
	if (sim->fail_call)
		test_note("after call %llu, %s on descriptors %d and %d, failed with %s%s:",
			  (unsigned long long)sim->fail_at, sim_call_name(sim->fail_call),
			  sim->fail_fd[0], sim->fail_fd[1], fid_error_name(sim->fail_error),
			  sim->fail_sticky ? " and so from then on" : "");
	test_fail(__FILE__, __LINE__, "%s", sim->failure);
}

struct sim *sim_new(void)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	uint64_t random = 1;

	if (!sim)
		abort();
	/* Buffers come and go with each round: keep them in the process. */
	mallopt(M_MMAP_THRESHOLD, 64 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	for (size_t i = 0; i < sizeof(sim->table); i += sizeof(random)) {
		uint64_t word = test_random(&random);

		memcpy(sim->table + i, &word, sizeof(word));
	}
	sim_table_fill(&sim->kernel);
	sim_start(sim, 1, NULL);
	return sim;
}

/* Forgets descriptors, objects and memory. */
static void clear(struct sim *sim)
{
	while (sim->maps)
		sim_mapping_drop(sim, &sim->map[--sim->maps]);
	for (uint32_t i = 0; i < sim->objects; i++) {
		sim_memory_file_drop(&sim->object[i]);
		sim_ring_clear(&sim->object[i]);
		sim_content_clear(&sim->object[i].content);
		sim->object[i].in_use = false;
	}
	sim->objects = 0;
	sim->objects_made = 0;
	memset(sim->fd, 0, sizeof(sim->fd));
	sim->fd_next = 0;
	sim->fds_open = 0;
	sim->peer_count = 0;
	sim->slots_private = 0;
	sim_literals_free(sim);
}

void sim_start(struct sim *sim, uint64_t seed, const struct sim_world *world)
{
	clear(sim);
	sim->world = world ? *world : (struct sim_world){.name = "stock"};
	sim->seed = seed;
	sim->random = seed;
	sim->now_ns = 1000000000;
	sim->next_ns = SIM_NEVER;
	sim->acted_ns = sim->now_ns;
	sim->signal_ns = sim->world.signal_every_ns
				 ? sim->now_ns + sim_random(sim) % sim->world.signal_every_ns
				 : SIM_NEVER;
	sim->generation = 1;
	sim->fail_at = 0;
	sim->fail_error = 0;
	sim->fail_sticky = false;
	sim->fail_call = SIM_NONE;
	sim->fail_bytes = 0;
	sim->no_sleep = false;
	sim->no_poll_sleep = false;
	sim->stable = false;
	sim->calls = 0;
	sim->idle_calls = 0;
	sim->eagains = 0;
	sim->eintrs = 0;
	sim->sleeps = 0;
	sim->changed = 0;
	sim->last_error = sim->error_before = (struct sim_error){SIM_NONE, 0, {-1, -1}, -1};
	sim->sigpipe_blocked = false;
	sim->sigpipe_pending = false;
	sim->sigpipe_blocked_first = false;
	sim->sigpipe_pending_first = false;
	sim->sigpipe_held = false;
	sim->sigpipe_maybe = false;
	sim->lends_memory = false;
	sim->takes_sigpipe = false;
	sim->is_sole_reader = false;
	sim->sigpipes = 0;
	sim->may_sleep_on_shared = false;
	sim->hole_bytes = 0;
	sim->slabs_made = 0;
	sim->failure[0] = '\0';
}

void sim_finish(struct sim *sim)
{
	for (int i = 0; i < SIM_FDS; i++)
		if (sim->fd[i].is_open && !sim->fd[i].is_borrowed)
			sim_fail(sim, "descriptor %d of a %s was not closed", i + SIM_FD_FIRST,
				 sim->object[sim->fd[i].object].is_private ? "private pipe"
									   : "caller's");
	if (sim->maps)
		sim_fail(sim, "%u mappings were not unmapped", sim->maps);
	if (sim->sigpipe_held)
		sim_fail(sim, "SIGPIPE is still held back");
	if (sim->sigpipe_blocked != sim->sigpipe_blocked_first ||
	    sim->sigpipe_pending != sim->sigpipe_pending_first)
		sim_fail(sim, "SIGPIPE is not as the caller left it: blocked %d, pending %d",
			 sim->sigpipe_blocked, sim->sigpipe_pending);
}

struct sim *sim_free(struct sim *sim)
{
	clear(sim);
	for (uint32_t i = 0; i < SIM_OBJECTS; i++)
		free(sim->object[i].ring.extent);
	free(sim);
	return NULL;
}
