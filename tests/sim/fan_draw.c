/* SPDX-License-Identifier: MIT */
/*
 * Kernels, pools, sources, sinks and options, drawn at random.
 */
#include "fan_draw.h"

#include <errno.h>
#include <fcntl.h>

static const struct sim_world worlds[] = {
	{.name = "stock"},
	{.name = "stock, and no RWF_NOSIGNAL", .no_write_nosignal = true},
	{.name = "tee is EPERM", .tee = -EPERM},
	{.name = "tee is ENOSYS", .tee = -ENOSYS, .no_write_nosignal = true},
	{.name = "tee is EINVAL", .tee = -EINVAL},
	{.name = "splice is EPERM", .splice = -EPERM, .no_write_nosignal = true},
	{.name = "splice is ENOSYS", .splice = -ENOSYS},
	{.name = "splice is EOPNOTSUPP", .splice = -EOPNOTSUPP, .tee = -EOPNOTSUPP},
	{.name = "splice is EINVAL", .splice = -EINVAL, .sendfile = -EINVAL},
	{.name = "nothing but read and write",
	 .splice = -EPERM,
	 .tee = -EPERM,
	 .sendfile = -EPERM,
	 .copy_file_range = -EPERM,
	 .pipe = -EPERM,
	 .no_write_nosignal = true},
	{.name = "no descriptors left", .pipe = -EMFILE},
	{.name = "no files left", .pipe = -ENFILE},
	{.name = "pipes do not grow", .pipe_grow = -EPERM},
	{.name = "the budget of pipes is gone", .slots_budget = 1, .pipe_grow = -EPERM},
	{.name = "the budget of pipes is small", .slots_budget = 48},
	{.name = "the budget of pipes is a little", .slots_budget = 300},
	{.name = "pipes of one slot", .pipe_slots = 1, .pipe_grow = -EPERM},
	{.name = "no memory for buffers", .no_memory = true},
	{.name = "no memory for buffers, and tee is EPERM", .no_memory = true, .tee = -EPERM},
	{.name = "gVisor",
	 .vmsplice = -ENOSYS,
	 .copy_file_range = -ENOSYS,
	 .empty_pipe_says_zero = true,
	 .no_write_nosignal = true},
};

enum { WORLDS = sizeof(worlds) / sizeof(worlds[0]) };

static uint64_t random_size(uint64_t *random)
{
	switch (below(random, 12)) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 2:
		return below(random, 5000);
	case 3:
	case 4:
		return below(random, 64 << 10);
	case 5:
		return (64 << 10) - 2 + below(random, 5);
	case 6:
		return below(random, 2 << 20);
	default:
		return below(random, 300 << 10);
	}
}

struct sim_world fan_random_world(uint64_t *random)
{
	static const uint64_t chunks[] = {0, 0, 0, 0, 1 << 20, 64 << 10, 9000, 4096, 1500};
	struct sim_world world = worlds[below(random, WORLDS)];

	if (once_in(random, 2))
		world = worlds[0];
	if (once_in(random, 2))
		world.short_permille = (uint32_t)below(random, 1000);
	if (once_in(random, 3))
		world.again_permille = (uint32_t)below(random, 300);
	world.chunk_bytes_max = chunks[below(random, 9)];
	if (once_in(random, 3))
		world.signal_every_ns = 10000 + below(random, 1000000);
	return world;
}

static void random_peer(struct sim_peer *peer, uint64_t *random)
{
	static const uint32_t most[] = {1 << 20, 1 << 20, 64 << 10, 16 << 10,
					4096,    4096,    1000,     100};

	peer->bytes_max = most[below(random, 8)];
	peer->delay_ns = once_in(random, 2) ? 200 : (uint32_t)below(random, 50000);
	if (once_in(random, 12))
		peer->delay_ns = 20000000;
}

/* Small pieces make many steps; a fan of them should not be long as well. */
static uint64_t bounded(uint64_t size, uint64_t piece)
{
	return size < piece * 100 ? size : piece * 100;
}

static void random_limits(struct fan_scene *scene, uint64_t *random)
{
	if (once_in(random, 3))
		scene->options.bytes_max = random_size(random);
	if (once_in(random, 12))
		scene->options.flags |= FID_LIMIT_ZERO;
}

static void random_stream(struct fan_scene *scene, enum sim_kind kind, uint64_t *random)
{
	struct sim *sim = scene->sim;
	int flags = once_in(random, 2) ? O_NONBLOCK : 0;
	enum sim_end end = once_in(random, 6) ? SIM_END_RESET : SIM_END_CLOSE;
	struct sim_object *object;
	struct sim_peer pace;

	random_peer(&pace, random);
	scene->available = bounded(random_size(random), pace.bytes_max);
	scene->source = sim_source(sim, kind, flags, scene->available, end);
	object = sim_object(sim, scene->source);
	object->producer.bytes_max = pace.bytes_max;
	object->producer.delay_ns = pace.delay_ns;
	object->queue_bytes_max = 1 + below(random, 256 << 10);
	if (kind != SIM_FIFO) {
		if (end == SIM_END_RESET)
			scene->faults |= FAN_FAULT_SOURCE;
		if (kind != SIM_TERMINAL && once_in(random, 2))
			object->segment_bytes = 1 + (uint32_t)below(random, 8000);
		return;
	}
	if (once_in(random, 3))
		object->slots = 1u << below(random, 9);
	if (once_in(random, 2)) {
		scene->pages = sim_regular(sim, scene->available, O_RDWR);
		object->producer.lends = (uint32_t)scene->pages;
		scene->overwrites = once_in(random, 2);
	}
}

static void random_file(struct fan_scene *scene, uint64_t *random)
{
	struct sim *sim = scene->sim;
	uint64_t chunk = sim->world.chunk_bytes_max ? sim->world.chunk_bytes_max : 1 << 20;
	uint64_t size = bounded(random_size(random), chunk);
	struct sim_object *object;

	scene->source = scene->pages =
		sim_regular(sim, size, O_RDWR | (once_in(random, 2) ? O_NONBLOCK : 0));
	scene->available = size;
	scene->overwrites = once_in(random, 2);
	object = sim_object(sim, scene->source);
	if (once_in(random, 4) && size) {
		uint64_t start = below(random, size);

		if (once_in(random, 2)) {
			scene->options.source_offset = start;
			scene->options.flags |= FID_SOURCE_OFFSET;
		} else {
			sim->fd[scene->source - SIM_FD_FIRST].offset = start;
		}
		scene->available = size - start;
	} else if (once_in(random, 8)) {
		scene->options.flags |= FID_SOURCE_OFFSET;
	}
	if (once_in(random, 6)) {
		object->magic = 0x65735546; /* FUSE */
		object->size_told = (int64_t)below(random, size + 1000);
		object->early_end = once_in(random, 2);
		object->hides_error = once_in(random, 2);
	} else if (once_in(random, 8)) {
		object->magic = 0x9fa0; /* proc */
		object->size_told = 0;
		object->no_splice = once_in(random, 2);
		object->early_end = once_in(random, 2);
	}
	if (once_in(random, 10) && scene->available) {
		uint64_t good = below(random, scene->available);

		object->error_at = size - scene->available + good;
		object->error = EIO;
		scene->available = good;
		scene->faults |= FAN_FAULT_SOURCE;
	}
}

static void random_source(struct fan_scene *scene, uint64_t *random)
{
	static const enum sim_kind kinds[] = {SIM_REGULAR, SIM_REGULAR,  SIM_FIFO,
					      SIM_FIFO,    SIM_FIFO,     SIM_TCP,
					      SIM_UNIX,    SIM_TERMINAL, SIM_NULL};

	scene->source_kind = kinds[below(random, 9)];
	if (scene->source_kind == SIM_REGULAR)
		random_file(scene, random);
	else if (scene->source_kind == SIM_NULL)
		scene->source = sim_device(scene->sim, SIM_NULL, O_RDONLY);
	else
		random_stream(scene, scene->source_kind, random);
	random_limits(scene, random);
}

/* What is done about a sink that is slow. */
static void random_policy(struct fan_scene *scene, struct fan_leg *leg, uint64_t *random)
{
	struct fid_fan_sink_options *options = &leg->options;
	struct sim_object *file;
	uint64_t junk = below(random, 9000);

	options->on_slow = (uint32_t)below(random, 3);
	leg->has_options = options->on_slow || sim_random(scene->sim) % 2;
	if (options->on_slow == FID_SLOW_WAIT)
		return;
	if (options->on_slow == FID_SLOW_DROP || once_in(random, 3))
		options->stall_ms = once_in(random, 3) ? 0 : 1 + (uint32_t)below(random, 50);
	if (options->on_slow == FID_SLOW_DROP)
		return;
	/* What is in the file before is nothing that anybody may see. */
	options->spill = sim_regular(scene->sim, 0, O_RDWR);
	sim_overwrite(scene->sim, options->spill, 0, junk);
	file = sim_object(scene->sim, options->spill);
	if (!once_in(random, 3))
		options->spill_bytes_max = 1 + below(random, once_in(random, 2) ? 200 : 40000);
	/* A ring of a few bytes is for a fan of a few. */
	if (options->spill_bytes_max && options->spill_bytes_max < scene->available / 300)
		options->spill_bytes_max += scene->available / 300;
	if (once_in(random, 5)) {
		file->room = below(random, 20000);
		file->room_error = once_in(random, 2) ? ENOSPC : EIO;
	}
	if (once_in(random, 12)) {
		file->error_at = below(random, 20000);
		file->error = EIO;
		leg->faults |= FAN_FAULT_SPILL;
	}
}

static struct fan_leg *random_file_leg(struct fan_scene *scene, uint64_t *random)
{
	struct sim *sim = scene->sim;
	bool appends = once_in(random, 3);
	uint64_t size = appends ? below(random, 10000) : 0;
	int fd = sim_regular(sim, size, appends ? O_WRONLY | O_APPEND : O_RDWR);
	struct fan_leg *leg = fan_leg_add(scene, SIM_REGULAR, fd);

	if (!appends && once_in(random, 3)) {
		leg->options.sink_offset = below(random, 3) * 1000;
		leg->options.flags = FID_SINK_OFFSET;
	}
	if (once_in(random, 8)) {
		sim_object(sim, fd)->room = (appends ? size : leg->options.sink_offset) +
					    below(random, scene->available + 1);
		leg->faults |= FAN_FAULT_ROOM;
	}
	return leg;
}

static struct fan_leg *random_stream_leg(struct fan_scene *scene, enum sim_kind kind,
					 uint64_t *random)
{
	struct sim *sim = scene->sim;
	int flags = once_in(random, 2) ? O_NONBLOCK : 0;
	int fd = sim_sink(sim, kind, flags);
	struct fan_leg *leg = fan_leg_add(scene, kind, fd);
	struct sim_object *object = sim_far(sim, fd);

	random_peer(&object->consumer, random);
	object->queue_bytes_max = 1 + below(random, 256 << 10);
	if (kind == SIM_FIFO && !once_in(random, 3))
		object->slots = 1u << below(random, 9);
	if (object->consumer.bytes_max * 100u < scene->available)
		object->consumer.bytes_max = 1 << 20;
	if (once_in(random, 6)) {
		object->consumer.bytes_left = below(random, scene->available + 1000);
		object->consumer.end = once_in(random, 2) ? SIM_END_RESET : SIM_END_CLOSE;
		leg->faults |= FAN_FAULT_PEER;
	}
	return leg;
}

/* A reader that stops for ever stops everybody, unless its sink is dropped for it. */
static void random_stop(struct fan_scene *scene, struct fan_leg *leg, uint64_t *random)
{
	const struct fid_fan_sink_options *options = &leg->options;
	struct sim_object *object = sim_far(scene->sim, leg->fd);
	bool drops = options->on_slow == FID_SLOW_DROP ||
		     (options->on_slow == FID_SLOW_SPILL && options->stall_ms);
	bool sleeps = leg->kind == SIM_TERMINAL &&
		      !(scene->sim->fd[leg->fd - SIM_FD_FIRST].flags & O_NONBLOCK);

	if (!drops || sleeps || leg->faults & FAN_FAULT_PEER || !object->consumer.is_there ||
	    !once_in(random, 3))
		return;
	object->consumer.bytes_left = below(random, scene->available + 1000);
	object->consumer.end = SIM_END_IDLE;
	leg->faults |= FAN_FAULT_STUCK;
}

static void random_leg(struct fan_scene *scene, uint64_t *random)
{
	static const enum sim_kind kinds[] = {SIM_FIFO, SIM_FIFO, SIM_FIFO,     SIM_FIFO,
					      SIM_TCP,  SIM_UNIX, SIM_REGULAR,  SIM_REGULAR,
					      SIM_NULL, SIM_FULL, SIM_TERMINAL, SIM_TCP};
	static const int errors[] = {-EINVAL, -EPERM, -ENOSYS, -EOPNOTSUPP, SIM_SAYS_ZERO};
	enum sim_kind kind = kinds[below(random, 12)];
	struct fan_leg *leg;

	if (kind == SIM_FULL && !once_in(random, 3))
		kind = SIM_NULL;
	if (kind == SIM_REGULAR)
		leg = random_file_leg(scene, random);
	else if (kind == SIM_NULL || kind == SIM_FULL)
		leg = fan_leg_add(scene, kind, sim_device(scene->sim, kind, O_WRONLY));
	else
		leg = random_stream_leg(scene, kind, random);
	random_policy(scene, leg, random);
	leg->has_options |= leg->options.flags != 0;
	random_stop(scene, leg, random);
	if (once_in(random, 10)) {
		struct sim_object *object = sim_object(scene->sim, leg->fd);

		object->refuses_from = below(random, scene->available + 1);
		/* From pipe to pipe a 0 is the end: only calls on other sinks lie about it. */
		object->refuses_error = errors[below(random, kind == SIM_FIFO ? 4 : 5)];
	}
}

static void random_options(struct fan_scene *scene, uint64_t *random)
{
	struct fid_fan_options *options = &scene->options;

	if (once_in(random, 4))
		options->flags |= FID_STABLE;
	if (once_in(random, 4))
		options->flags |= FID_NOWAIT;
	if (once_in(random, 3))
		options->flags |= FID_INTERRUPTIBLE;
	if (once_in(random, 8))
		options->flags |= FID_GROW_PIPES;
	if (once_in(random, 8))
		options->flags |= FID_FAN_STOP;
	if (once_in(random, 4))
		options->pipe_bytes = random_size(random);
	if (once_in(random, 6))
		options->routes = FID_ROUTE(FID_READ_WRITE);
}

struct fan_scene fan_random_scene(struct sim *sim, struct fid_pool *pool, uint64_t *random)
{
	struct fan_scene scene = fan_scene_new(sim, pool);
	unsigned legs = (unsigned)below(random, once_in(random, 4) ? FAN_LEGS_MAX : 4);

	/* Whoever has no buffer fails, and nobody else is to blame. */
	if (sim->world.no_memory)
		scene.faults |= FAN_FAULT_INJECTED;
	random_source(&scene, random);
	random_options(&scene, random);
	if (once_in(random, 30))
		return scene;
	for (unsigned i = 0; i <= legs; i++)
		random_leg(&scene, random);
	return scene;
}

struct fid_pool *fan_random_pool(struct sim *sim, uint64_t *random)
{
	struct fid_pool_options options = {.size = sizeof(options)};
	struct fid_pool *pool;

	if (once_in(random, 3)) {
		options.pipes_max = 1 + (uint32_t)below(random, 4);
		options.pipes_idle_max = 1 + (uint32_t)below(random, 2);
		options.buffers_idle_max = 1;
	}
	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &pool, &options), 0);
	return pool;
}
