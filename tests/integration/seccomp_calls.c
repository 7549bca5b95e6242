/* SPDX-License-Identifier: MIT */
/*
 * The three calls where a filter refuses some of them: each stand-in does what the bare call
 * did on an equal scene before the filter came, or says that it was refused and moves nothing.
 */
#include "sandbox.h"
#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct scene_end memory = {"memory", BASE_MEMORY, 0};

struct trial {
	enum scene_call call;
	enum scene_way way;
	unsigned refused;
	int error;
	bool offsets; /* all of them, and not only the descriptors' own */
};

enum { SCENES_MAX = 6000 };

static struct scene scenes[SCENES_MAX];
static struct outcome outside[SCENES_MAX];
static size_t scenes_count;

static void add(enum scene_call call, const struct scene_end *source,
		const struct scene_end *sink, int offsets, size_t bytes, unsigned flags)
{
	CHECK(scenes_count < SCENES_MAX);
	scenes[scenes_count++] = (struct scene){
		call, source, sink, (offsets & 1) != 0, (offsets & 2) != 0, bytes, flags};
}

/* All reading of a file is by offset, so that a stash before it would be no use. */
static bool needs_no_stash(const struct scene_end *source)
{
	return source->base > BASE_PTY && source->base != BASE_NONE;
}

static void add_scenes(const struct trial *trial, unsigned flags)
{
	static const size_t lengths[] = {0, 700, 5000, 1 << 20};

	for (size_t i = 0; trial->call != SCENE_VMSPLICE && i < scene_sources_count; i++)
		for (size_t k = 0; k < scene_sinks_count; k++)
			for (int offsets = 0; offsets < (trial->offsets ? 4 : 1); offsets++)
				if (trial->way != SCENE_STASH ||
				    !needs_no_stash(&scene_sources[i]))
					add(trial->call, &scene_sources[i], &scene_sinks[k],
					    offsets, 5000, flags);
	for (size_t l = 0; trial->call == SCENE_VMSPLICE && l < 4; l++) {
		for (size_t k = 0; k < scene_sinks_count; k++)
			if (!(scene_sinks[k].traits & SCENE_WRONG))
				add(SCENE_VMSPLICE, &memory, &scene_sinks[k], 0, lengths[l],
				    flags);
		for (size_t i = 0; i < scene_sources_count; i++)
			if (!(scene_sources[i].traits & SCENE_WRONG))
				add(SCENE_VMSPLICE, &scene_sources[i], &memory, 0, lengths[l],
				    flags);
	}
}

/* What must be taken to be moved, or cannot be looked into; only a stash could. */
static bool has_no_stand_in(const struct scene *scene, const struct trial *trial)
{
	if (trial->way == SCENE_STASH)
		return false;
	if (scene->call != SCENE_SPLICE)
		return scene->call == SCENE_TEE;
	switch (scene->source->base) {
	case BASE_PIPE:
		return (trial->refused & REFUSE_TEE) != 0;
	case BASE_PTY:
	case BASE_NULL:
	case BASE_EVENTFD:
		return true;
	default:
		return false;
	}
}

/* What reads and writes but does not splice, which nothing but splice tells: not an EINVAL. */
static bool is_odd(const struct scene *scene)
{
	return scene->source->base == BASE_STATUS || scene->source->base == BASE_DIRECTORY ||
	       scene->source->base == BASE_NULL || scene->source->base == BASE_EVENTFD ||
	       scene->sink->base == BASE_FULL || scene->sink->base == BASE_EVENTFD;
}

static void check(const struct outcome *got, const struct outcome *bare,
		  const struct scene *scene, const struct trial *trial)
{
	outcome_check(got, scene);
	if (!(trial->refused & 1u << scene->call)) {
		outcome_same(got, bare, scene);
		return;
	}
	if (got->result == -trial->error && has_no_stand_in(scene, trial)) {
		CHECK_EQUAL(got->signals, 0);
		return;
	}
	/*
	 * A pipe without a reader is told at once, without waiting for the source, and there
	 * has to be a byte for a signal to be raised.
	 */
	if (got->result == -EPIPE && got->signals == 0 && scene->sink->base == BASE_PIPE &&
	    scene->sink->traits & SCENE_GONE && !(scene->source->traits & SCENE_HELD))
		return;
	/* The end of a source is told at once, without waiting for room in the sink. */
	if (got->result == 0 && (bare->result == -EINTR || bare->result == -EAGAIN) &&
	    scene->source->traits == SCENE_GONE)
		return;
	if (!is_odd(scene))
		outcome_alike(got, bare);
	else if (scene->source->base != BASE_STATUS)
		CHECK(got->result <= 0 && got->result != -trial->error);
}

/* What the pool of the process keeps is no leak. */
static void warm_up(void)
{
	int ends[2], sockets[2];

	CHECK(pipe(ends) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
	CHECK_EQUAL(write(ends[1], "x", 1), 1);
	fid_splice(ends[0], NULL, sockets[0], NULL, 1, 0);
	close(ends[0]);
	close(ends[1]);
	close(sockets[0]);
	close(sockets[1]);
}

static void play_inside(const struct trial *trial)
{
	char *descriptors;

	scene_prepare();
	sandbox_enter(trial->refused, trial->error);
	warm_up();
	descriptors = descriptors_list();
	for (size_t i = 0; i < scenes_count; i++) {
		struct outcome got;

		doing("%s where %s%s", scene_name(&scenes[i]),
		      sandbox_name(trial->refused, trial->error),
		      trial->way == SCENE_STASH ? ", by a stash" : "");
		scene_play(&scenes[i], trial->way, &got);
		check(&got, &outside[i], &scenes[i], trial);
	}
	descriptors_check(descriptors);
}

/* A filter stays for life, so that each sandbox is a process of its own. */
static void play_in_sandbox(const struct trial *trial)
{
	pid_t inside = fork();
	int status;

	CHECK(inside >= 0);
	if (inside == 0) {
		play_inside(trial);
		_exit(0);
	}
	status = reap(inside);
	/* It has left its sentence for the test. */
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		_exit(WEXITSTATUS(status));
	CHECK_EQUAL(status, 0);
}

/* Each set of refused calls, with each of the errors where the call is one of them. */
static void play_all(void *argument)
{
	struct trial trial = *(const struct trial *)argument;

	scene_prepare();
	add_scenes(&trial, 0);
	add_scenes(&trial, SPLICE_F_NONBLOCK);
	for (size_t i = 0; i < scenes_count; i++) {
		doing("%s, outside", scene_name(&scenes[i]));
		scene_play(&scenes[i], SCENE_BARE, &outside[i]);
		outcome_check(&outside[i], &scenes[i]);
	}
	for (trial.refused = 1; trial.refused <= REFUSE_ALL; trial.refused++)
		for (int e = 0; e < (trial.refused & 1u << trial.call ? 3 : 1); e++) {
			trial.error = sandbox_errors[e];
			if (!trial.offsets || trial.refused == REFUSE_SPLICE)
				play_in_sandbox(&trial);
		}
}

static void play(enum scene_call call, enum scene_way way, bool offsets)
{
	struct trial trial = {.call = call, .way = way, .offsets = offsets};

	test_seed();
	in_child(10, play_all, &trial);
}

TEST(splice_keeps_its_meaning_or_says_that_it_is_refused_in_each_sandbox)
{
	play(SCENE_SPLICE, SCENE_FID, false);
}

TEST(offsets_keep_their_meaning_where_splice_is_refused)
{
	play(SCENE_SPLICE, SCENE_FID, true);
}

TEST(a_stash_has_the_meaning_of_splice_in_each_sandbox)
{
	play(SCENE_SPLICE, SCENE_STASH, false);
}

TEST(tee_without_a_stash_is_the_call_or_its_refusal_in_each_sandbox)
{
	play(SCENE_TEE, SCENE_FID, false);
}

TEST(a_stash_has_the_meaning_of_tee_in_each_sandbox)
{
	play(SCENE_TEE, SCENE_STASH, false);
}

TEST(vmsplice_keeps_its_meaning_in_both_directions_in_each_sandbox)
{
	play(SCENE_VMSPLICE, SCENE_FID, false);
}
