/* SPDX-License-Identifier: MIT */
/*
 * Where the kernel refuses nothing fid's three calls are the kernel's, for ends of every kind
 * and state and for every argument: the same result, the same error, the same bytes, offsets
 * and signals as the bare system call on an equal scene.
 */
#include "scene.h"

#include <fcntl.h>
#include <string.h>

static const struct scene_end memory = {"memory", BASE_MEMORY, 0};

/* What is compared, of scenes that the loops of a test go through. */
static void compare(const struct scene *scene)
{
	struct outcome bare, fid;

	doing("%s", scene_name(scene));
	scene_play(scene, SCENE_BARE, &bare);
	outcome_check(&bare, scene);
	scene_play(scene, SCENE_FID, &fid);
	outcome_check(&fid, scene);
	outcome_same(&fid, &bare, scene);
	/* A stash stands before what cannot be read twice, and does nothing here. */
	if (scene->call == SCENE_VMSPLICE || scene->source_offset ||
	    scene->source->base > BASE_PTY || scene->source->traits & SCENE_WRONG)
		return;
	scene_play(scene, SCENE_STASH, &fid);
	outcome_check(&fid, scene);
	outcome_same(&fid, &bare, scene);
	CHECK_EQUAL(fid.stashed, 0);
}

static void each_pair(struct scene *scene)
{
	for (size_t i = 0; i < scene_sources_count; i++)
		for (size_t k = 0; k < scene_sinks_count; k++) {
			scene->source = &scene_sources[i];
			scene->sink = &scene_sinks[k];
			compare(scene);
		}
}

static void splice_pairs(void *argument)
{
	static const size_t lengths[] = {5000, 1 << 20};
	static const unsigned flags[] = {0, SPLICE_F_NONBLOCK};
	char *descriptors;

	(void)argument;
	scene_prepare();
	descriptors = descriptors_list();
	for (size_t l = 0; l < 2; l++)
		for (size_t f = 0; f < 2; f++) {
			struct scene scene = {SCENE_SPLICE, NULL,       NULL,    false,
					      false,        lengths[l], flags[f]};

			each_pair(&scene);
		}
	descriptors_check(descriptors);
}

TEST(fid_splice_does_what_splice_does_between_ends_of_every_kind_and_state)
{
	test_seed();
	in_child(10, splice_pairs, NULL);
}

static void splice_offsets(void *argument)
{
	(void)argument;
	scene_prepare();
	for (int given = 1; given < 4; given++) {
		struct scene scene = {
			SCENE_SPLICE,     NULL, NULL, (given & 1) != 0, (given & 2) != 0, 5000,
			SPLICE_F_NONBLOCK};

		each_pair(&scene);
	}
}

TEST(offsets_mean_to_fid_splice_what_they_mean_to_splice)
{
	test_seed();
	in_child(10, splice_offsets, NULL);
}

static void splice_flags(void *argument)
{
	static const struct scene_end few_sources[] = {
		{"a pipe that holds bytes", BASE_PIPE, SCENE_HELD},
		{"an ended pipe", BASE_PIPE, SCENE_GONE},
		{"TCP that holds bytes", BASE_TCP, SCENE_HELD},
		{"a file", BASE_FILE, SCENE_HELD},
		{"no descriptor", BASE_NONE, 0},
	};
	static const struct scene_end few_sinks[] = {
		{"a pipe", BASE_PIPE, 0},
		{"TCP", BASE_TCP, 0},
		{"a file", BASE_FILE, 0},
	};

	(void)argument;
	scene_prepare();
	for (size_t i = 0; i < 5; i++)
		for (size_t k = 0; k < 3; k++)
			for (unsigned flags = 0; flags < 64; flags++)
				for (size_t bytes = 0; bytes <= 700; bytes += 700)
					for (int call = SCENE_SPLICE; call <= SCENE_TEE;
					     call++) {
						struct scene scene = {(enum scene_call)call,
								      &few_sources[i],
								      &few_sinks[k],
								      false,
								      false,
								      bytes,
								      flags};

						compare(&scene);
					}
}

TEST(each_flag_and_each_unknown_one_and_no_length_are_answered_as_by_the_kernel)
{
	test_seed();
	in_child(10, splice_flags, NULL);
}

static void tee_pairs(void *argument)
{
	static const size_t lengths[] = {5000, 1 << 20};

	(void)argument;
	scene_prepare();
	for (size_t l = 0; l < 2; l++)
		for (unsigned f = 0; f < 2; f++) {
			struct scene scene = {SCENE_TEE,
					      NULL,
					      NULL,
					      false,
					      false,
					      lengths[l],
					      f ? SPLICE_F_NONBLOCK : 0};

			each_pair(&scene);
		}
}

TEST(fid_tee_does_what_tee_does_between_ends_of_every_kind_and_state)
{
	test_seed();
	in_child(10, tee_pairs, NULL);
}

static void vmsplice_ends(void *argument)
{
	static const size_t lengths[] = {0, 700, 5000, 1 << 20};

	(void)argument;
	scene_prepare();
	for (size_t l = 0; l < 4; l++)
		for (unsigned flags = 0; flags < 64; flags++) {
			struct scene scene = {SCENE_VMSPLICE, &memory,    NULL, false,
					      false,          lengths[l], flags};

			for (size_t k = 0; k < scene_sinks_count; k++) {
				/* The other end of a pipe asks for the other direction. */
				if (scene_sinks[k].traits & SCENE_WRONG)
					continue;
				scene.sink = &scene_sinks[k];
				compare(&scene);
			}
			scene.sink = &memory;
			for (size_t i = 0; i < scene_sources_count; i++) {
				if (scene_sources[i].traits & SCENE_WRONG)
					continue;
				scene.source = &scene_sources[i];
				compare(&scene);
			}
		}
}

TEST(fid_vmsplice_does_what_vmsplice_does_in_both_directions)
{
	test_seed();
	in_child(10, vmsplice_ends, NULL);
}
