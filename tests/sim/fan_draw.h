/* SPDX-License-Identifier: MIT */
/*
 * Fans drawn at random, for the storms.
 */
#ifndef FID_FAN_DRAW_H
#define FID_FAN_DRAW_H

#include "fan_scene.h"
#include "test.h"

/* Chance: once in so many. */
static inline bool once_in(uint64_t *random, uint64_t many)
{
	return test_random(random) % many == 0;
}

static inline uint64_t below(uint64_t *random, uint64_t bound)
{
	return test_random(random) % bound;
}

struct sim_world fan_random_world(uint64_t *random);
struct fid_pool *fan_random_pool(struct sim *sim, uint64_t *random);

/* A source, options and 0 to 12 sinks; the fan itself is not made yet. */
struct fan_scene fan_random_scene(struct sim *sim, struct fid_pool *pool, uint64_t *random);

#endif
