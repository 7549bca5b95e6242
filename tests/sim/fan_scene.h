/* SPDX-License-Identifier: MIT */
/*
 * One fan on the simulated kernel, from its making to its end, with every promise of <fid.h>
 * checked after each step: the account of the source and of each sink, what is waited for, why
 * a sink ended and that the others go on, and what salvage hands over.
 */
#ifndef FID_FAN_SCENE_H
#define FID_FAN_SCENE_H

#include "flow/fan.h"
#include "pipe/pipe.h"
#include "sim.h"

enum { FAN_LEGS_MAX = 12 };

/* What may end a sink, or the fan, before all bytes are delivered. */
enum fan_fault {
	FAN_FAULT_SOURCE = 1,   /* the source has an error in store */
	FAN_FAULT_PEER = 2,     /* of a sink: its reader dies */
	FAN_FAULT_ROOM = 4,     /* of a sink: it takes no more bytes from somewhere on */
	FAN_FAULT_STUCK = 8,    /* of a sink: its reader stops for ever */
	FAN_FAULT_SPILL = 16,   /* of a sink: its file fails when it is read */
	FAN_FAULT_INJECTED = 32 /* a test fails one call */
};

/* A sink. */
struct fan_leg {
	enum sim_kind kind;
	int fd;
	unsigned faults;
	bool has_options;
	struct fid_fan_sink_options options;

	/* Since fan_begin(). */
	int number; /* in the fan, or why it is not */
	uint64_t start;
	uint64_t junk; /* what was in its file before */
	uint64_t salvaged;
	uint64_t skipped; /* bytes that were salvaged of the fan before this sink had them */
	uint64_t progress_ns; /* when the step began that last moved something for it */
	struct fid_receipt last;
};

struct fan_scene {
	struct sim *sim;
	struct fid_pool *pool;
	enum sim_kind source_kind;
	int source;
	int pages;          /* the file whose bytes the source gives references to; -1: none */
	uint64_t available; /* bytes of the source from the first one on */
	unsigned faults;    /* enum fan_fault, of the source and the test */
	bool overwrites;    /* somebody overwrites delivered parts of the pages */
	bool salvages;      /* everything, once, in the middle */
	bool is_told;       /* prints what each step did */
	bool abandons;      /* frees the fan with what it holds */
	struct fid_fan_options options;
	struct fan_leg leg[FAN_LEGS_MAX];
	unsigned legs;

	/* Since fan_begin(). */
	struct fid_fan *fan;
	uint64_t first; /* position in the stream of the first byte */
	uint64_t source_start;
	struct fid_fan_wait wait;
	uint64_t wait_until_ns;
	int result;
	bool is_over;
	struct fid_receipt last;
	uint64_t salvaged;
	uint64_t passed; /* of that, what the sinks go on behind */
	uint64_t steps;
	uint64_t idle_steps; /* in a row */
	uint64_t sleeps;
	uint64_t timeouts;
	uint64_t eintrs;
	uint64_t calls_at_end;
};

/* A scene without sinks whose source is not there yet. */
struct fan_scene fan_scene_new(struct sim *sim, struct fid_pool *pool);

/* The next sink of the scene, on this descriptor. */
struct fan_leg *fan_leg_add(struct fan_scene *scene, enum sim_kind kind, int fd);

/* Makes the fan and gives it its sinks. Returns what fid_fan_new() does. */
int fan_begin(struct fan_scene *scene);

/* One fid_fan_step() or fid_fan_run(). They return what these do. */
int fan_step(struct fan_scene *scene);
int fan_run(struct fan_scene *scene, int timeout_ms);

/* Whether what the last step waits for is there, and waiting for it. */
bool fan_is_due(struct fan_scene *scene);
void fan_wait(struct fan_scene *scene);

/* Steps and waits to the end. */
int fan_finish(struct fan_scene *scene);

/* Salvages what a sink holds. */
void fan_salvage_leg(struct fan_scene *scene, struct fan_leg *leg);

/*
 * Salvages all that sinks and fan hold, for a fan that goes on: what each sink gets next is
 * what the fan takes next. false: some reader is too slow for that.
 */
bool fan_salvage_midway(struct fan_scene *scene);

static inline bool fan_leg_is_dead(const struct fan_leg *leg)
{
	return leg->last.error != 0;
}

/* Prints the receipts. */
void fan_describe(const struct fan_scene *scene, const char *when);

/* How many bytes a fan that meets no failure gives to each sink. */
uint64_t fan_wanted_bytes(const struct fan_scene *scene);

/* Checks that it may have ended as it did, salvages, and frees it. */
void fan_end(struct fan_scene *scene);

/* ---- Between fan_scene.c and fan_end.c -------------------------------------------------- */

#define FAN_EXPECT(condition, ...)                         \
	do {                                               \
		if (!(condition))                          \
			sim_fail(scene->sim, __VA_ARGS__); \
	} while (0)

/* Whether it is bytes_max that ends it. */
bool fan_is_limited(const struct fan_scene *scene);

unsigned fan_dead_legs(const struct fan_scene *scene);

/*
 * Takes all receipts. Returns whether anything moved; what moved for a sink in a step that
 * began at began_ns is remembered.
 */
bool fan_take_receipts(struct fan_scene *scene, uint64_t began_ns);

/* The receipts against each other and against what the kernel saw. */
void fan_check_account(struct fan_scene *scene);

#endif
