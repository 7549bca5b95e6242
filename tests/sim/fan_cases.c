/* SPDX-License-Identifier: MIT */
/*
 * What fans promise, one fact at a time, on the simulated kernel.
 */
#include "fan_scene.h"
#include "sim.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>

enum { BYTES = 200001 };

static struct fan_scene scene_new(const struct sim_world *world)
{
	struct sim *sim = sim_new();
	struct fid_pool *pool;

	sim_start(sim, 7, world);
	CHECK_EQUAL(fid_pool_new_on(&sim->kernel, &pool, NULL), 0);
	return fan_scene_new(sim, pool);
}

static void scene_free(struct fan_scene *scene)
{
	fan_end(scene);
	fid_pool_free(scene->pool);
	sim_finish(scene->sim);
	sim_free(scene->sim);
}

static void give_source(struct fan_scene *scene, enum sim_kind kind, uint64_t bytes)
{
	scene->source_kind = kind;
	scene->available = bytes;
	if (kind == SIM_REGULAR)
		scene->source = scene->pages = sim_regular(scene->sim, bytes, O_RDWR);
	else
		scene->source = sim_source(scene->sim, kind, 0, bytes, SIM_END_CLOSE);
}

static struct fan_leg *give_sink(struct fan_scene *scene, enum sim_kind kind)
{
	int fd = kind == SIM_REGULAR ? sim_regular(scene->sim, 0, O_RDWR)
				     : sim_sink(scene->sim, kind, 0);

	return fan_leg_add(scene, kind, fd);
}

static struct sim_peer *reader_of(struct fan_scene *scene, const struct fan_leg *leg)
{
	return &sim_far(scene->sim, leg->fd)->consumer;
}

static void set_policy(struct fan_leg *leg, enum fid_slow on_slow, uint32_t stall_ms)
{
	leg->options.on_slow = on_slow;
	leg->options.stall_ms = stall_ms;
	leg->has_options = true;
}

static void give_file(struct fan_scene *scene, struct fan_leg *leg, uint64_t bytes_max)
{
	set_policy(leg, FID_SLOW_SPILL, 0);
	leg->options.spill = sim_regular(scene->sim, 0, O_RDWR);
	leg->options.spill_bytes_max = bytes_max;
}

/* A reader that has read so many bytes stops for ever, or dies. */
static void ends_at(struct fan_scene *scene, const struct fan_leg *leg, uint64_t bytes,
		    enum sim_end end)
{
	reader_of(scene, leg)->bytes_left = bytes;
	reader_of(scene, leg)->end = (uint8_t)end;
}

static const enum sim_kind kinds[] = {SIM_FIFO, SIM_TCP, SIM_UNIX, SIM_REGULAR};

/* ---- What is taken, and from where ---- */

TEST(a_fan_with_a_limit_leaves_the_rest_in_the_source_pipe)
{
	for (int i = 0; i < 4; i++) {
		struct fan_scene scene = scene_new(NULL);
		struct sim_object *source;

		give_source(&scene, SIM_FIFO, BYTES);
		give_sink(&scene, SIM_FIFO);
		give_sink(&scene, kinds[i]);
		scene.options.bytes_max = 150001;
		CHECK_EQUAL(fan_begin(&scene), 0);
		CHECK_EQUAL(fan_finish(&scene), 0);
		source = sim_object(scene.sim, scene.source);
		CHECK_EQUAL(source->ring.bytes + source->producer.bytes_left, 50000);
		scene_free(&scene);
	}
}

TEST(a_fan_without_sinks_takes_all_and_keeps_nothing)
{
	struct fan_scene scene = scene_new(NULL);

	give_source(&scene, SIM_FIFO, BYTES);
	CHECK_EQUAL(fan_begin(&scene), 0);
	CHECK_EQUAL(fan_run(&scene, -1), 0);
	CHECK_EQUAL(scene.last.bytes_in, BYTES);
	scene_free(&scene);
}

TEST(pipes_get_references_and_the_last_one_takes_them_out_of_the_source)
{
	struct fan_scene scene = scene_new(NULL);

	give_source(&scene, SIM_FIFO, BYTES);
	for (int i = 0; i < 3; i++)
		give_sink(&scene, SIM_FIFO);
	CHECK_EQUAL(fan_begin(&scene), 0);
	CHECK_EQUAL(fan_run(&scene, -1), 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQUAL(scene.leg[i].last.by_class[FID_BY_REFERENCE], BYTES);
	CHECK(scene.leg[2].last.by_method[FID_SPLICE] > 0);
	CHECK_EQUAL(scene.last.calls[FID_READ_WRITE], 0);
	scene_free(&scene);
}

TEST(a_fan_behind_a_fan_gives_the_same_bytes)
{
	struct fan_scene first = scene_new(NULL);
	struct fan_scene second = fan_scene_new(first.sim, first.pool);
	bool closed = false;
	int ends[2];

	sim_pipe_pair(first.sim, ends, 0);
	give_source(&first, SIM_TCP, BYTES);
	give_sink(&first, SIM_FIFO);
	fan_leg_add(&first, SIM_FIFO, ends[1]);
	second.source_kind = SIM_FIFO;
	second.source = ends[0];
	second.available = BYTES;
	give_sink(&second, SIM_UNIX);
	give_sink(&second, SIM_FIFO);
	CHECK_EQUAL(fan_begin(&first), 0);
	CHECK_EQUAL(fan_begin(&second), 0);
	while (!first.is_over || !second.is_over) {
		if (!first.is_over)
			fan_step(&first);
		if (first.is_over && !closed)
			sim_close_borrowed(first.sim, ends[1]);
		closed |= first.is_over;
		if (!second.is_over)
			fan_step(&second);
		if (first.result == FID_WAIT && second.result == FID_WAIT &&
		    !fan_is_due(&second))
			fan_wait(&first);
		else if (first.is_over && !second.is_over)
			fan_wait(&second);
	}
	CHECK_EQUAL(second.last.bytes_in, BYTES);
	fan_end(&second);
	scene_free(&first);
}

TEST(a_fan_that_is_done_still_tells_what_pipe_it_had)
{
	struct fan_scene scene = scene_new(NULL);

	give_source(&scene, SIM_REGULAR, BYTES);
	give_sink(&scene, SIM_FIFO);
	give_sink(&scene, SIM_TCP);
	scene.options.pipe_bytes = 128 << 10;
	CHECK_EQUAL(fan_begin(&scene), 0);
	CHECK_EQUAL(fan_finish(&scene), 0);
	CHECK_EQUAL(scene.last.pipe_bytes, 128 << 10);
	CHECK_EQUAL(scene.last.pipe_bytes_asked, 128 << 10);
	scene_free(&scene);
}

/* ---- Sinks that end ---- */

TEST(a_sink_that_dies_ends_alone)
{
	for (int i = 0; i < 3; i++) {
		struct fan_scene scene = scene_new(NULL);
		struct fan_leg *dies;

		give_source(&scene, SIM_FIFO, BYTES);
		dies = give_sink(&scene, kinds[i]);
		give_sink(&scene, SIM_FIFO);
		give_sink(&scene, SIM_REGULAR);
		dies->faults = FAN_FAULT_PEER;
		ends_at(&scene, dies, 70000, SIM_END_CLOSE);
		CHECK_EQUAL(fan_begin(&scene), 0);
		CHECK_EQUAL(fan_finish(&scene), 0);
		CHECK_EQUAL(dies->last.error, -EPIPE);
		CHECK_EQUAL(scene.leg[1].last.bytes_out, BYTES);
		CHECK_EQUAL(scene.leg[2].last.bytes_out, BYTES);
		scene_free(&scene);
	}
}

TEST(a_sink_that_dies_while_the_source_is_idle_is_noticed)
{
	for (int i = 0; i < 3; i++) {
		struct fan_scene scene = scene_new(NULL);
		struct fan_leg *dies;

		give_source(&scene, SIM_TCP, 5000);
		sim_object(scene.sim, scene.source)->producer.end = SIM_END_IDLE;
		dies = give_sink(&scene, kinds[i]);
		dies->faults = FAN_FAULT_PEER;
		ends_at(&scene, dies, 5000, SIM_END_CLOSE);
		CHECK_EQUAL(fan_begin(&scene), 0);
		CHECK_EQUAL(fan_finish(&scene), -EPIPE);
		CHECK_EQUAL(dies->last.bytes_out, 5000);
		scene_free(&scene);
	}
}

TEST(what_only_a_dead_sink_wanted_is_thrown_away_also_without_memory)
{
	for (int no_memory = 0; no_memory < 2; no_memory++) {
		const struct sim_world world = {.no_memory = no_memory};
		struct fan_scene scene = scene_new(&world);
		struct fan_leg *dies;

		give_source(&scene, SIM_FIFO, 60000);
		give_sink(&scene, SIM_FIFO);
		give_sink(&scene, SIM_FIFO);
		dies = give_sink(&scene, SIM_FIFO);
		/* It stands behind the others, and what it has not had they have. */
		sim_object(scene.sim, dies->fd)->slots = 2;
		dies->faults = FAN_FAULT_PEER;
		ends_at(&scene, dies, 4000, SIM_END_CLOSE);
		CHECK_EQUAL(fan_begin(&scene), 0);
		CHECK_EQUAL(fan_finish(&scene), 0);
		CHECK_EQUAL(dies->last.error, -EPIPE);
		CHECK_EQUAL(scene.leg[0].last.bytes_out, 60000);
		CHECK_EQUAL(scene.leg[1].last.bytes_out, 60000);
		scene_free(&scene);
	}
}

TEST(what_a_dead_sink_was_lent_is_exact_also_when_there_is_no_memory_to_keep_it)
{
	uint64_t kept = 0;

	for (int i = 0; i < 6; i++) {
		struct fan_scene scene = scene_new(NULL);
		struct fan_leg *dies;

		give_source(&scene, SIM_FIFO, BYTES);
		dies = give_sink(&scene, kinds[i % 3]);
		give_sink(&scene, SIM_FIFO);
		dies->faults = FAN_FAULT_PEER;
		ends_at(&scene, dies, 70000, SIM_END_CLOSE);
		scene.options.routes = FID_ROUTE(FID_READ_WRITE);
		CHECK_EQUAL(fan_begin(&scene), 0);
		while (!dies->last.bytes_held) {
			fan_step(&scene);
			fan_wait(&scene);
		}
		scene.sim->world.no_memory = i < 3;
		CHECK_EQUAL(fan_finish(&scene), 0);
		CHECK_EQUAL(dies->last.error, -EPIPE);
		CHECK_EQUAL(scene.leg[1].last.bytes_out, BYTES);
		kept += i < 3 ? 0 : dies->last.bytes_held;
		fan_salvage_leg(&scene, dies);
		scene_free(&scene);
	}
	CHECK(kept > 0);
}

TEST(with_fan_stop_the_first_failure_ends_all)
{
	struct fan_scene scene = scene_new(NULL);
	struct fan_leg *dies;

	give_source(&scene, SIM_REGULAR, BYTES);
	dies = give_sink(&scene, SIM_TCP);
	give_sink(&scene, SIM_FIFO);
	dies->faults = FAN_FAULT_PEER;
	ends_at(&scene, dies, 30000, SIM_END_RESET);
	scene.options.flags = FID_FAN_STOP;
	CHECK_EQUAL(fan_begin(&scene), 0);
	CHECK_EQUAL(fan_finish(&scene), -ECONNRESET);
	CHECK_EQUAL(scene.last.error_side, FID_SIDE_SINK);
	CHECK(scene.leg[1].last.bytes_out < BYTES);
	scene_free(&scene);
}

TEST(a_socket_that_is_noisy_and_well_is_not_given_up)
{
	struct fan_scene scene = scene_new(NULL);

	give_source(&scene, SIM_FIFO, BYTES);
	sim_object(scene.sim, scene.source)->producer.bytes_max = 3000;
	sim_object(scene.sim, give_sink(&scene, SIM_TCP)->fd)->noisy = true;
	give_sink(&scene, SIM_FIFO);
	CHECK_EQUAL(fan_begin(&scene), 0);
	CHECK_EQUAL(fan_finish(&scene), 0);
	CHECK_EQUAL(scene.leg[0].last.error, 0);
	scene_free(&scene);
}

/* ---- Sinks that are slow ---- */

TEST(a_sink_that_stops_stops_all_where_that_was_asked_for)
{
	for (int i = 0; i < 3; i++) {
		struct fan_scene scene = scene_new(NULL);
		struct fan_leg *stops;

		give_source(&scene, SIM_FIFO, 8 << 20);
		stops = give_sink(&scene, kinds[i]);
		give_sink(&scene, SIM_REGULAR);
		ends_at(&scene, stops, 30000, SIM_END_IDLE);
		CHECK_EQUAL(fan_begin(&scene), 0);
		CHECK_EQUAL(fan_run(&scene, 5000), -ETIMEDOUT);
		CHECK(!scene.is_over);
		CHECK(scene.last.bytes_in < 4 << 20);
		scene_free(&scene);
	}
}

TEST(a_sink_that_stops_is_dropped_when_its_time_is_over)
{
	for (int copies = 0; copies < 2; copies++) {
		for (int i = 0; i < 3; i++) {
			struct fan_scene scene = scene_new(NULL);
			struct fan_leg *stops;

			give_source(&scene, SIM_FIFO, 8 << 20);
			stops = give_sink(&scene, kinds[i]);
			give_sink(&scene, SIM_REGULAR);
			set_policy(stops, FID_SLOW_DROP, 30);
			ends_at(&scene, stops, 30000, SIM_END_IDLE);
			scene.options.routes = copies ? FID_ROUTE(FID_READ_WRITE) : 0;
			CHECK_EQUAL(fan_begin(&scene), 0);
			CHECK_EQUAL(fan_finish(&scene), 0);
			CHECK_EQUAL(stops->last.error, -ETIMEDOUT);
			CHECK_EQUAL(scene.leg[1].last.bytes_out, 8 << 20);
			scene_free(&scene);
		}
	}
}

TEST(a_slow_sink_gets_all_through_a_small_file_that_goes_round)
{
	for (int copies = 0; copies < 2; copies++) {
		for (uint64_t size = 1000; size < 70000; size = size * 3 + 1) {
			struct fan_scene scene = scene_new(NULL);
			struct fan_leg *slow;

			give_source(&scene, SIM_FIFO, BYTES);
			slow = give_sink(&scene, SIM_FIFO);
			give_sink(&scene, SIM_REGULAR);
			reader_of(&scene, slow)->bytes_max = 4000;
			reader_of(&scene, slow)->delay_ns = 100000;
			sim_object(scene.sim, slow->fd)->slots = 2;
			give_file(&scene, slow, size);
			scene.options.routes = copies ? FID_ROUTE(FID_READ_WRITE) : 0;
			CHECK_EQUAL(fan_begin(&scene), 0);
			CHECK_EQUAL(fan_finish(&scene), 0);
			CHECK_EQUAL(slow->last.bytes_out, BYTES);
			CHECK_EQUAL(sim_object(scene.sim, slow->options.spill)->content.size,
				    size);
			scene_free(&scene);
		}
	}
}

TEST(a_sink_that_never_reads_keeps_nobody_from_the_end_when_its_file_takes_all)
{
	struct fan_scene scene = scene_new(NULL);
	struct fan_leg *stops;

	give_source(&scene, SIM_FIFO, 4 << 20);
	stops = give_sink(&scene, SIM_FIFO);
	give_sink(&scene, SIM_REGULAR);
	ends_at(&scene, stops, 0, SIM_END_IDLE);
	give_file(&scene, stops, 0);
	CHECK_EQUAL(fan_begin(&scene), 0);
	CHECK_EQUAL(fan_run(&scene, 100), -ETIMEDOUT);
	CHECK_EQUAL(scene.leg[1].last.bytes_out, 4 << 20);
	CHECK_EQUAL(stops->last.bytes_in, 4 << 20);
	CHECK(stops->last.bytes_held > 3 << 20);
	scene_free(&scene);
}

TEST(a_file_that_is_full_loses_nothing_and_is_named)
{
	for (int room = 0; room < 20000; room += 6000) {
		struct fan_scene scene = scene_new(NULL);
		struct fan_leg *slow;

		give_source(&scene, SIM_FIFO, BYTES);
		slow = give_sink(&scene, SIM_FIFO);
		give_sink(&scene, SIM_REGULAR);
		reader_of(&scene, slow)->bytes_max = 4000;
		reader_of(&scene, slow)->delay_ns = 100000;
		sim_object(scene.sim, slow->fd)->slots = 2;
		give_file(&scene, slow, 0);
		sim_object(scene.sim, slow->options.spill)->room = (uint64_t)room;
		CHECK_EQUAL(fan_begin(&scene), 0);
		CHECK_EQUAL(fan_finish(&scene), 0);
		CHECK_EQUAL(slow->last.bytes_out, BYTES);
		CHECK_EQUAL(slow->last.demotions, 1);
		CHECK_EQUAL(slow->last.demotion[0].error, -ENOSPC);
		scene_free(&scene);
	}
}

/* ---- Salvage in the middle ---- */

TEST(a_fan_goes_on_after_all_that_it_held_was_salvaged)
{
	static const struct sim_world without_tee = {.name = "tee is EPERM", .tee = -EPERM};
	static const enum sim_kind sources[] = {SIM_REGULAR, SIM_FIFO, SIM_TCP};

	for (int copies = 0; copies < 2; copies++) {
		for (int i = 0; i < 9; i++) {
			struct fan_scene scene = scene_new(copies ? &without_tee : NULL);

			give_source(&scene, sources[i % 3], 2 << 20);
			give_sink(&scene, kinds[i / 3]);
			give_sink(&scene, SIM_REGULAR);
			CHECK_EQUAL(fan_begin(&scene), 0);
			for (int steps = 0; steps < 3; steps++)
				fan_step(&scene);
			CHECK(fan_salvage_midway(&scene));
			CHECK_EQUAL(fan_finish(&scene), 0);
			CHECK_EQUAL(scene.last.bytes_out + scene.salvaged, 2 << 20);
			scene_free(&scene);
		}
	}
}

/* What was on its way into the ring then is not in it, which must not shift what comes after.
 */
TEST(a_file_goes_round_after_what_was_on_its_way_there_was_salvaged)
{
	static const struct sim_world shorts = {
		.name = "calls are short", .splice = -EPERM, .short_permille = 1000};

	for (int before = 1; before < 50; before++) {
		struct fan_scene scene = scene_new(&shorts);
		struct fan_leg *slow;

		give_source(&scene, SIM_REGULAR, 1 << 20);
		slow = give_sink(&scene, SIM_FIFO);
		give_sink(&scene, SIM_REGULAR);
		reader_of(&scene, slow)->bytes_max = 4000;
		reader_of(&scene, slow)->delay_ns = 100000;
		sim_object(scene.sim, slow->fd)->slots = 2;
		give_file(&scene, slow, 100000);
		CHECK_EQUAL(fan_begin(&scene), 0);
		for (int steps = 0; steps < before && !scene.is_over; steps++) {
			fan_step(&scene);
			fan_wait(&scene);
		}
		CHECK(scene.is_over || fan_salvage_midway(&scene));
		CHECK_EQUAL(scene.is_over ? 0 : fan_finish(&scene), 0);
		CHECK_EQUAL(scene.last.bytes_out + scene.salvaged, 1 << 20);
		scene_free(&scene);
	}
}

/* ---- Bytes that change later ---- */

static uint64_t changed_after_delivery(enum sim_kind source, enum sim_kind sink, uint32_t flags)
{
	struct fan_scene scene = scene_new(NULL);
	uint64_t changed;

	give_source(&scene, source, BYTES);
	if (source == SIM_FIFO) {
		scene.pages = sim_regular(scene.sim, BYTES, O_RDWR);
		sim_object(scene.sim, scene.source)->producer.lends = (uint32_t)scene.pages;
	}
	scene.options.flags = flags;
	for (int i = 0; i < 2; i++) {
		struct fan_leg *leg = give_sink(&scene, sink);

		/* A blocking socket is sent copies; and it reads late. */
		scene.sim->fd[leg->fd - SIM_FD_FIRST].flags = O_NONBLOCK;
		reader_of(&scene, leg)->next_ns = SIM_NEVER;
		sim_far(scene.sim, leg->fd)->queue_bytes_max = 1 << 20;
		if (sink == SIM_FIFO)
			sim_object(scene.sim, leg->fd)->slots = SIM_SLOTS_MAX;
	}
	CHECK_EQUAL(fan_begin(&scene), 0);
	/* Peers act only when they are woken by a delivery; so all is delivered first. */
	for (int i = 0; i < 2; i++)
		reader_of(&scene, &scene.leg[i])->is_there = false;
	CHECK_EQUAL(fan_finish(&scene), 0);
	sim_overwrite(scene.sim, scene.pages, 1000, 100);
	for (int i = 0; i < 2; i++) {
		reader_of(&scene, &scene.leg[i])->is_there = true;
		reader_of(&scene, &scene.leg[i])->next_ns = scene.sim->now_ns;
	}
	scene.sim->next_ns = scene.sim->now_ns;
	sim_settle(scene.sim);
	changed = scene.sim->changed;
	scene_free(&scene);
	return changed;
}

TEST(what_was_delivered_by_reference_shows_later_writes)
{
	CHECK_EQUAL(changed_after_delivery(SIM_REGULAR, SIM_FIFO, 0), 200);
	CHECK_EQUAL(changed_after_delivery(SIM_REGULAR, SIM_UNIX, 0), 200);
	CHECK_EQUAL(changed_after_delivery(SIM_FIFO, SIM_FIFO, 0), 200);
}

TEST(what_a_stable_fan_delivered_shows_no_later_write)
{
	static const enum sim_kind sources[] = {SIM_REGULAR, SIM_FIFO};

	for (int from = 0; from < 2; from++)
		for (int to = 0; to < 3; to++)
			CHECK_EQUAL(
				changed_after_delivery(sources[from], kinds[to], FID_STABLE),
				0);
}

/* ---- What is refused ---- */

TEST(a_fan_refuses_what_cannot_be)
{
	struct fan_scene scene = scene_new(NULL);
	struct fid_fan_options options = {.size = sizeof(options), .pool = scene.pool};
	struct fid_fan_sink_options sink = {.size = sizeof(sink)};
	struct fid_kernel *kernel = &scene.sim->kernel;
	struct fid_fan *fan;
	int ends[2];
	int file = sim_regular(scene.sim, 100, O_RDWR);

	sim_pipe_pair(scene.sim, ends, 0);
	CHECK_EQUAL(fid_fan_new_on(kernel, &fan, ends[1], &options), -EBADF);
	options.source_offset = 1;
	CHECK_EQUAL(fid_fan_new_on(kernel, &fan, ends[0], &options), -ESPIPE);
	options.source_offset = 0;
	options.flags = 1u << 31;
	CHECK_EQUAL(fid_fan_new_on(kernel, &fan, ends[0], &options), -EINVAL);
	options.flags = 0;
	CHECK_EQUAL(fid_fan_new_on(kernel, &fan, ends[0], &options), 0);
	CHECK_EQUAL(fid_fan_add(fan, ends[0], NULL), -EBADF);
	CHECK_EQUAL(fid_fan_add(fan, ends[1], NULL), -EINVAL);
	sink.sink_offset = 1;
	CHECK_EQUAL(fid_fan_add(fan, sim_sink(scene.sim, SIM_FIFO, 0), &sink), -ESPIPE);
	CHECK_EQUAL(fid_fan_add(fan, sim_regular(scene.sim, 0, O_WRONLY | O_APPEND), &sink),
		    -EINVAL);
	sink.sink_offset = 0;
	sink.on_slow = FID_SLOW_SPILL;
	sink.spill = sim_sink(scene.sim, SIM_FIFO, 0);
	CHECK_EQUAL(fid_fan_add(fan, file, &sink), -EINVAL);
	sink.spill = sim_regular(scene.sim, 0, O_WRONLY);
	CHECK_EQUAL(fid_fan_add(fan, file, &sink), -EINVAL);
	sink.on_slow = FID_SLOW_SPILL + 1;
	CHECK_EQUAL(fid_fan_add(fan, file, &sink), -EINVAL);
	CHECK_EQUAL(fid_fan_add(fan, file, NULL), 0);
	CHECK_EQUAL(fid_fan_step(fan, NULL), FID_WAIT);
	CHECK_EQUAL(fid_fan_add(fan, sim_regular(scene.sim, 0, O_RDWR), NULL), -EINVAL);
	CHECK(!fid_fan_sink_receipt(fan, 1));
	fid_fan_free(fan);
	scene_free(&scene);
}

TEST(a_fan_takes_sinks_up_to_its_limit)
{
	struct fan_scene scene = scene_new(NULL);
	struct fid_fan_options options = {.size = sizeof(options), .pool = scene.pool};
	struct fid_fan *fan;
	int file = sim_regular(scene.sim, 0, O_RDWR);

	CHECK_EQUAL(fid_fan_new_on(&scene.sim->kernel, &fan, sim_regular(scene.sim, 0, 0),
				   &options),
		    0);
	for (int i = 0; i < FID_FAN_SINKS_MAX; i++) {
		scene.sim->idle_calls = 0;
		CHECK_EQUAL(fid_fan_add(fan, file, NULL), i);
	}
	CHECK_EQUAL(fid_fan_add(fan, file, NULL), -ENOSPC);
	fid_fan_free(fan);
	scene_free(&scene);
}
