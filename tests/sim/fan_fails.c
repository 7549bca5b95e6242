/* SPDX-License-Identifier: MIT */
/*
 * Each kernel call of a fan fails once, or from then on, with each errno value that is
 * plausible for it. After each run every sink has a prefix of the source, the accounts are
 * exact, salvage hands over what follows, nothing leaks, and a sink ends only by a call of its
 * own: the others get everything.
 */
#include "fan_scene.h"
#include "sim.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { LOG = 1 << 13, BYTES = 70001 };

struct scenario {
	const char *name;
	enum sim_kind source;
	enum sim_kind sinks[4];
	unsigned count;
	int flags; /* of all descriptors */
	uint32_t options;
	uint32_t routes;
	bool spills; /* the last sink is slow and has a small file */
	bool runs;
	struct sim_world world;
};

/* Errno values by call, ended by 0. */
static const int errors[SIM_CALLS][12] = {
	[SIM_READ] = {EIO, EINTR, EAGAIN, ECONNRESET, ENOMEM},
	[SIM_WRITE] = {EIO, EINTR, EAGAIN, ENOSPC, EPIPE, ECONNRESET, EOPNOTSUPP},
	[SIM_SPLICE] = {EINVAL, EPERM, ENOSYS, EOPNOTSUPP, ENOMEM, EIO, EINTR, EAGAIN, EPIPE,
			ENOSPC, ECONNRESET},
	[SIM_TEE] = {EINVAL, EPERM, ENOSYS, EOPNOTSUPP, ENOMEM, EINTR, EAGAIN, EPIPE},
	[SIM_SENDFILE] = {EINVAL, EPERM, ENOSYS, ENOMEM, EIO, EINTR, EAGAIN},
	[SIM_STAT] = {EIO, ENOMEM, EPERM},
	[SIM_STATUS_FLAGS] = {EPERM, ENOSYS},
	[SIM_SOCKET] = {EPERM, ENOSYS},
	[SIM_SOCKET_ERROR] = {EPERM, ENOSYS},
	[SIM_IS_TERMINAL] = {EPERM},
	[SIM_FILE_SYSTEM] = {EPERM, EIO},
	[SIM_SEEK] = {EPERM, EIO},
	[SIM_PIPE] = {EMFILE, ENFILE, EPERM, ENOSYS, ENOMEM},
	[SIM_PIPE_RESIZE] = {EPERM, EBUSY, ENOMEM},
	[SIM_PIPE_SIZE] = {EPERM},
	[SIM_CLOSE] = {EIO, EINTR},
	[SIM_POLL] = {EINTR, ENOMEM},
	[SIM_MAP] = {ENOMEM},
};

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

static void add_sink(struct fan_scene *scene, enum sim_kind kind, int flags)
{
	struct sim *sim = scene->sim;
	struct sim_object *object;
	int fd;

	if (kind == SIM_REGULAR) {
		fan_leg_add(scene, kind, sim_regular(sim, 0, O_RDWR | flags));
		return;
	}
	if (kind == SIM_NULL) {
		fan_leg_add(scene, kind, sim_device(sim, kind, O_WRONLY));
		return;
	}
	fd = sim_sink(sim, kind, flags);
	object = sim_far(sim, fd);
	object->consumer.bytes_max = 30000;
	object->consumer.delay_ns = 0;
	object->queue_bytes_max = 30000;
	fan_leg_add(scene, kind, fd);
}

/* The last sink takes little, and its file is a ring that its bytes go round several times. */
static void make_slow(struct fan_scene *scene)
{
	struct fan_leg *leg = &scene->leg[scene->legs - 1];
	struct sim_object *object = sim_far(scene->sim, leg->fd);

	object->consumer.bytes_max = 9000;
	object->consumer.delay_ns = 50000;
	object->queue_bytes_max = 9000;
	if (leg->kind == SIM_FIFO)
		object->slots = 2;
	leg->options.on_slow = FID_SLOW_SPILL;
	leg->options.spill = sim_regular(scene->sim, 0, O_RDWR);
	leg->options.spill_bytes_max = 20000;
	leg->has_options = true;
}

static struct fan_scene make(struct sim *sim, const struct scenario *scenario, uint64_t fail_at,
			     int error, bool sticky)
{
	struct fan_scene scene;
	struct fid_pool *pool;

	sim_start(sim, 99, &scenario->world);
	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &pool, NULL), 0);
	scene = fan_scene_new(sim, pool);
	scene.source_kind = scenario->source;
	scene.source = open_source(sim, scenario);
	scene.available = BYTES;
	scene.faults = fail_at ? FAN_FAULT_INJECTED : 0;
	scene.options.flags = scenario->options;
	scene.options.routes = scenario->routes;
	for (unsigned i = 0; i < scenario->count; i++)
		add_sink(&scene, scenario->sinks[i], scenario->flags);
	if (scenario->spills)
		make_slow(&scene);
	sim->fail_at = fail_at;
	sim->fail_error = -error;
	sim->fail_sticky = sticky;
	if (fan_begin(&scene) == 0) {
		while (!scene.is_over) {
			if (scenario->runs) {
				fan_run(&scene, -1);
			} else {
				fan_step(&scene);
				fan_wait(&scene);
			}
		}
	}
	fan_end(&scene);
	fid_pool_free(pool);
	sim_finish(sim);
	return scene;
}

#define EXPECT(condition, ...)                                                                \
	do {                                                                                  \
		if (!(condition)) {                                                           \
			test_note("%s, call %llu is %s and fails with %s%s:", scenario->name, \
				  (unsigned long long)fail_at, sim_call_name(call),           \
				  fid_error_name(error), sticky ? " from then on" : "");      \
			fan_describe(scene, "at the end");                                    \
			FAIL(__VA_ARGS__);                                                    \
		}                                                                             \
	} while (0)

static bool moves_bytes(enum sim_call call)
{
	return call == SIM_READ || call == SIM_WRITE || call == SIM_SPLICE || call == SIM_TEE ||
	       call == SIM_SENDFILE;
}

static bool is_refusal(int error)
{
	return error == EINVAL || error == EPERM || error == ENOSYS || error == EOPNOTSUPP ||
	       error == ENOMEM;
}

/* Which sinks ended, and whether that is because of a call of theirs. */
static void check_sinks(const struct sim *sim, const struct scenario *scenario,
			const struct fan_scene *scene, uint64_t fail_at, enum sim_call call,
			int error, bool sticky)
{
	unsigned dead = 0;

	for (unsigned i = 0; i < scene->legs; i++) {
		const struct fan_leg *leg = &scene->leg[i];

		if (leg->number < 0 || !fan_leg_is_dead(leg))
			continue;
		dead++;
		EXPECT(leg->last.error == -error, "sink %u ends with %s", i,
		       fid_error_name(leg->last.error));
		if (sim->fail_fd[1] == leg->fd || sim->fail_fd[0] == leg->fd)
			continue;
		for (unsigned other = 0; other < scene->legs; other++)
			EXPECT(sticky || sim->fail_fd[1] != scene->leg[other].fd,
			       "sink %u ends by a call on sink %u", i, other);
		EXPECT(sticky || call != SIM_READ || sim->fail_fd[0] != scene->source,
		       "sink %u ends by a call on the source", i);
	}
	EXPECT(dead <= 1 || sticky, "%u sinks end by one call", dead);
}

static void check_run(const struct sim *sim, const struct scenario *scenario,
		      const struct fan_scene *scene, uint64_t fail_at, enum sim_call call,
		      int error, bool sticky)
{
	bool at_source = sim->fail_fd[0] == scene->source;

	/* After the end there is salvage, and what the pool closes. */
	if (!scene->calls_at_end || fail_at > scene->calls_at_end)
		return;
	for (unsigned i = 0; i < scene->legs; i++)
		if (scene->leg[i].number < 0)
			return;
	check_sinks(sim, scenario, scene, fail_at, call, error, sticky);
	if (sticky)
		return;
	/* One sink of several cannot end the fan, and neither can a refusal. */
	if (!at_source && sim->fail_fd[1] >= 0 && moves_bytes(call) && call != SIM_READ &&
	    scene->last.error_side == FID_SIDE_SINK)
		EXPECT(scene->result == 0, "the fan ends with %s",
		       fid_error_name(scene->result));
	if (call == SIM_SPLICE || call == SIM_TEE || call == SIM_SENDFILE)
		if (is_refusal(error) || error == EINTR || error == EAGAIN)
			EXPECT(scene->result == 0, "a refusal ends the fan with %s",
			       fid_error_name(scene->result));
	if (error == EINTR || error == EAGAIN || call == SIM_PIPE || call == SIM_PIPE_RESIZE ||
	    call == SIM_PIPE_SIZE || call == SIM_CLOSE || call == SIM_SOCKET_ERROR ||
	    call == SIM_FILE_SYSTEM || call == SIM_IS_TERMINAL) {
		EXPECT(scene->result == 0, "it ends with %s", fid_error_name(scene->result));
		for (unsigned i = 0; i < scene->legs; i++)
			EXPECT(!fan_leg_is_dead(&scene->leg[i]), "sink %u ends with %s", i,
			       fid_error_name(scene->leg[i].last.error));
	}
}

static bool is_private(const struct fan_scene *scene, int fd)
{
	bool is_known = fd < 0 || fd == scene->source;

	for (unsigned i = 0; i < scene->legs; i++)
		is_known |= fd == scene->leg[i].fd;
	return !is_known;
}

/*
 * Whether a call on these descriptors can answer so. EAGAIN of a private pipe that has bytes or
 * room is nothing that a kernel says; a run in which the call answers as ever tells whose they
 * are.
 */
static bool is_plausible(struct sim *sim, const struct scenario *scenario, uint64_t fail_at,
			 int error, bool sticky)
{
	struct fan_scene scene;

	if (error != EAGAIN)
		return !(sticky && error == EINTR);
	if (sticky || !(scenario->flags & O_NONBLOCK))
		return false;
	scene = make(sim, scenario, fail_at, 0, false);
	return !is_private(&scene, sim->fail_fd[0]) && !is_private(&scene, sim->fail_fd[1]);
}

static uint64_t fail_each_call(struct sim *sim, const struct scenario *scenario)
{
	static uint8_t clean[LOG];
	struct fan_scene scene;
	uint64_t calls;
	uint64_t runs = 1;

	sim->log = clean;
	sim->log_size = LOG;
	scene = make(sim, scenario, 0, 0, false);
	CHECK_EQUAL(scene.result, 0);
	calls = sim->calls;
	CHECK(calls < LOG);
	sim->log = NULL;
	for (uint64_t fail_at = 1; fail_at <= calls; fail_at++) {
		enum sim_call call = (enum sim_call)clean[fail_at - 1];

		for (int i = 0; errors[call][i]; i++) {
			for (int sticky = 0; sticky < 2; sticky++) {
				int error = errors[call][i];

				if (!is_plausible(sim, scenario, fail_at, error, sticky))
					continue;
				scene = make(sim, scenario, fail_at, error, sticky);
				runs++;
				check_run(sim, scenario, &scene, fail_at, call, error, sticky);
			}
		}
	}
	return runs;
}

/* Each kind of source, blocking and not, in steps and in a run. */
static void fail_all_sources(struct scenario scenario)
{
	static const enum sim_kind sources[] = {SIM_REGULAR, SIM_FIFO, SIM_TCP, SIM_TERMINAL};
	static const char *const names[] = {"file", "pipe", "tcp", "terminal"};
	struct sim *sim = sim_new();
	uint64_t runs = 0;
	char name[80];

	scenario.name = name;
	for (int i = 0; i < 4; i++) {
		for (int how = 0; how < 2; how++) {
			scenario.source = sources[i];
			scenario.flags = how ? O_NONBLOCK : 0;
			scenario.runs = how != (i & 1);
			snprintf(name, sizeof(name), "a %s, flags %x, options %x, %s", names[i],
				 (unsigned)scenario.flags, scenario.options,
				 scenario.runs ? "run" : "steps");
			runs += fail_each_call(sim, &scenario);
		}
	}
	test_note("%llu runs, %llu kernel calls", (unsigned long long)runs,
		  (unsigned long long)sim->calls_ever);
	sim_free(sim);
}

TEST(every_call_of_a_fan_into_pipes_fails)
{
	fail_all_sources((struct scenario){.sinks = {SIM_FIFO, SIM_FIFO}, .count = 2});
}

TEST(every_call_of_a_fan_into_many_kinds_fails)
{
	fail_all_sources((struct scenario){.sinks = {SIM_FIFO, SIM_TCP, SIM_REGULAR, SIM_NULL},
					   .count = 4});
}

TEST(every_call_of_a_stable_fan_fails)
{
	fail_all_sources((struct scenario){.sinks = {SIM_UNIX, SIM_REGULAR, SIM_FIFO},
					   .count = 3,
					   .options = FID_STABLE,
					   .world = {.no_write_nosignal = true}});
}

TEST(every_call_of_a_fan_that_copies_fails)
{
	fail_all_sources((struct scenario){.sinks = {SIM_FIFO, SIM_TCP, SIM_REGULAR},
					   .count = 3,
					   .routes = FID_ROUTE(FID_READ_WRITE)});
}

TEST(every_call_of_a_fan_without_tee_fails)
{
	fail_all_sources((struct scenario){
		.sinks = {SIM_FIFO, SIM_REGULAR}, .count = 2, .world = {.tee = -EPERM}});
}

TEST(every_call_of_a_fan_that_spills_fails)
{
	fail_all_sources(
		(struct scenario){.sinks = {SIM_FIFO, SIM_TCP}, .count = 2, .spills = true});
	fail_all_sources((struct scenario){.sinks = {SIM_REGULAR, SIM_FIFO},
					   .count = 2,
					   .spills = true,
					   .routes = FID_ROUTE(FID_READ_WRITE)});
}
