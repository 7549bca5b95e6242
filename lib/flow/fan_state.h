/* SPDX-License-Identifier: MIT */
/*
 * The inside of a fan. Positions count the source's bytes from the fan's beginning.
 *
 * The window is what the sinks are fed from: a pipe (the source itself, or a private one that a
 * flow fills), or, when tee(2) or pipes are not to be had, a buffer. tee gives from the head of
 * a pipe only, so a sink is fed when it stands at the head, and the head moves on when every
 * sink is past it.
 */
#ifndef FID_FAN_STATE_H
#define FID_FAN_STATE_H

#include "flow/fan.h"
#include "flow/state.h"

#include <assert.h>

enum fan_input {
	INPUT_TEE = 0, /* the source is a pipe and is the window */
	INPUT_PIPE,    /* the filler moves the source into the private pipe, the window */
	INPUT_READ,    /* the source is read into the buffer */
};

/* What a sink that falls behind does not take: a ring of bytes in a file. */
struct fan_spill {
	struct fid_flow *in; /* into the file; its account is the ring's write position */
	int file;
	uint64_t bytes_max;
	uint64_t read; /* bytes that left the file */
	bool active;   /* the sink is fed from here */
	bool broken;   /* the file took no more */
};

struct fan_sink {
	struct fid_flow *flow; /* what delivers; fed by the fan */
	struct fan_spill *spill;
	uint64_t fed;               /* position of the next byte for it */
	uint64_t taken_seen;        /* fed and delivered bytes when that last changed */
	uint64_t stalled_ns;        /* since then; 0: it is not waited for */
	uint32_t stall_ms;          /* 0: for ever */
	uint8_t on_slow;            /* enum fid_slow */
	bool direct;                /* a pipe: tee goes straight into it */
	bool full;                  /* it had no room for what there was */
	bool idle;                  /* in this step its flow has nothing more to do */
	bool told;                  /* its end is known to the fan */
	struct fid_receipt receipt; /* as shown */
};

struct fid_fan {
	struct fid_kernel *kernel;
	struct fid_pool *pool;
	int source;
	struct fid_end source_end;
	int64_t source_at;
	uint32_t flags;
	uint64_t bytes_max;
	uint64_t pipe_bytes; /* of a private pipe */
	uint64_t grow_bytes; /* of the caller's, with FID_GROW_PIPES */
	enum fan_input input;
	bool started;
	bool copying; /* the window is the buffer */
	bool stable;  /* nobody can write to the window's pages */
	bool ended;

	struct fid_flow *filler;
	struct fid_pipe pipe;
	uint64_t filler_stuck_at; /* head when the filler found the pipe full, or UINT64_MAX */
	uint64_t head;            /* what was taken out of the window pipe or the source */
	uint64_t skipped;         /* of that, what was salvaged instead of given */
	uint64_t total;           /* where the source ends; UINT64_MAX: not yet known */
	bool source_idle;         /* in this step the source has no more */

	unsigned char *window;
	uint64_t window_at;
	size_t window_bytes;

	struct fan_sink *sinks;
	uint32_t count;
	uint32_t live;

	struct fid_quiet quiet;
	struct pollfd *fds;
	uint32_t *owner; /* of each entry: a sink, or FAN_SOURCE */
	size_t fds_count;
	uint32_t idle_waits;
	uint64_t started_ns;
	struct fid_receipt receipt;
};

#define FAN_SOURCE UINT32_MAX

/* The flow that the fan puts bytes into. */
static inline struct fid_flow *fan_target(const struct fan_sink *sink)
{
	return sink->spill && sink->spill->active ? sink->spill->in : sink->flow;
}

static inline bool fan_is_live(const struct fan_sink *sink)
{
	return !sink->flow->ended;
}

/* ---- fan.c ---- */

/* Before the first round. Returns 0 or -errno. */
int fid_fan_start(struct fid_fan *fan);

/* Brings the fan's own receipt up to date. */
void fid_fan_account(struct fid_fan *fan);

/* ---- fan_step.c ---- */

/* Makes what is lent to a sink's flow its own. false: there is no memory, and it is as it was.
 */
bool fid_fan_own_loan(struct fid_fan *fan, struct fid_flow *flow);

/* ---- feed.c: from the source into the sinks ---- */

/* Each returns whether anything moved. */
bool fid_fan_fill(struct fid_fan *fan);
bool fid_fan_feed(struct fid_fan *fan);

/* Where the bytes begin that some sink that lives has not had; otherwise if there is none. */
uint64_t fid_fan_lowest(const struct fid_fan *fan, uint64_t otherwise);

/* ---- spill.c ---- */

int fid_spill_new(struct fid_fan *fan, struct fan_sink *sink,
		  const struct fid_fan_sink_options *options);
void fid_spill_free(struct fan_spill *spill);

/* From now on the sink is fed through its file. false: there is none that takes bytes. */
bool fid_spill_begin(struct fid_fan *fan, struct fan_sink *sink);

/* How many bytes the file takes next. */
uint64_t fid_spill_room(struct fan_spill *spill);

/* Moves bytes into the file and from it into the sink. Returns whether anything moved. */
bool fid_spill_pump(struct fid_fan *fan, struct fan_sink *sink);

/* What is in the file and on the way into it. */
uint64_t fid_spill_bytes(const struct fan_spill *spill);

/* Reads what is in the file, oldest first. Returns how much, or -errno. */
ssize_t fid_spill_read(struct fid_fan *fan, struct fan_spill *spill, void *to, size_t bytes);

#endif
