/* SPDX-License-Identifier: MIT */
/*
 * The three calls on ends in every state, one call at a time: what it returned, what it left in
 * the source, what arrived, which offsets moved and whether a signal came. A bare system call
 * and fid's are put on two equal scenes, and what they did is compared.
 */
#ifndef FID_SCENE_H
#define FID_SCENE_H

#include "ends.h"

enum scene_base {
	BASE_PIPE,
	BASE_SMALL_PIPE, /* one slot */
	BASE_TCP,
	BASE_UNIX,
	BASE_DATAGRAM,
	BASE_PTY,
	BASE_FILE,
	BASE_APPEND,
	BASE_ZERO,
	BASE_NULL,
	BASE_FULL,
	BASE_STATUS,
	BASE_DIRECTORY,
	BASE_EVENTFD,
	BASE_PATH, /* O_PATH */
	BASE_NONE, /* no descriptor */
	BASE_MEMORY,
};

/* A source that has bytes; a sink that takes no more. */
#define SCENE_HELD 0x1u
/* Whoever was at the far end has left. */
#define SCENE_GONE 0x2u
#define SCENE_NONBLOCK 0x4u
/* Opened for the other direction. */
#define SCENE_WRONG 0x8u

struct scene_end {
	const char *name;
	enum scene_base base;
	unsigned traits;
};

extern const struct scene_end scene_sources[], scene_sinks[];
extern const size_t scene_sources_count, scene_sinks_count;

enum scene_call { SCENE_SPLICE, SCENE_TEE, SCENE_VMSPLICE };

/* Whose call it is. */
enum scene_way { SCENE_BARE, SCENE_FID, SCENE_STASH };

struct scene {
	enum scene_call call;
	const struct scene_end *source;
	const struct scene_end *sink;
	bool source_offset; /* one is given */
	bool sink_offset;
	size_t bytes;
	unsigned flags;
};

/* What a call did; -1 is what cannot be seen, or what the case does not have. */
struct outcome {
	int64_t result;
	int64_t source_offset;
	int64_t sink_offset;
	int64_t source_position;
	int64_t sink_position;
	int64_t left;    /* in the source */
	int64_t held;    /* in the source, before */
	int64_t stashed; /* of what is left */
	int64_t arrived;
	int signals; /* SIGPIPE, while it is not blocked */
	bool wrong;  /* a byte that arrived or was left is another one */
};

/* Files for the scenes, and the signals' handlers; once in each child. */
void scene_prepare(void);

/*
 * Sets the scene, makes one call, looks, and clears away. A call that sleeps is woken by a
 * signal, and so ends as EINTR.
 */
void scene_play(const struct scene *scene, enum scene_way way, struct outcome *ret_outcome);

/* "splice from an empty pipe to TCP, 5000 bytes, flags 0x2, both offsets" */
const char *scene_name(const struct scene *scene);

/* Fails if an outcome contradicts itself: bytes lost, doubled, changed or miscounted. */
void outcome_check(const struct outcome *outcome, const struct scene *scene);

/* Fails unless got is what the bare call did. */
void outcome_same(const struct outcome *got, const struct outcome *bare,
		  const struct scene *scene);

/* The same, but how many bytes are moved at once may differ. */
void outcome_alike(const struct outcome *got, const struct outcome *bare);

#endif
