/* SPDX-License-Identifier: MIT */
/*
 * What the result of a call means for a flow: its account, whose fault a failure is, which rung
 * is next, and what to wait for. machine.c makes the calls.
 */
#ifndef FID_JUDGE_H
#define FID_JUDGE_H

#include "flow/state.h"

enum {
	STALLS_MAX = 8, /* "ready" and EAGAIN by turns, or writes of 0, before it is enough */
};

enum outcome {
	MOVED,   /* bytes moved */
	CHANGED, /* none moved, but the next round is another one */
	WAITING, /* the flow's wait[] says for what */
	PAUSED,  /* nothing more is granted */
	INTERRUPTED,
	ENDED,
};

/* How many bytes the flow may take now. */
static inline uint64_t bytes_left(const struct fid_flow *flow)
{
	uint64_t end = flow->bytes_granted < flow->bytes_max ? flow->bytes_granted
							     : flow->bytes_max;

	return end - flow->receipt.bytes_in;
}

static inline size_t at_most(uint64_t bytes, uint64_t limit)
{
	return (size_t)(bytes < limit ? bytes : limit);
}

/* Bytes left the source, and are held now; bytes that were held are in the sink. */
void fid_flow_taken(struct fid_flow *flow, size_t bytes);
void fid_flow_given(struct fid_flow *flow, enum fid_method method, enum fid_class class_,
		    bool stable, size_t bytes);

/* Aborts unless the account is in balance. */
void fid_flow_assert_account(const struct fid_flow *flow);

/* Borrows the buffer unless it is there. false: no memory. */
bool fid_flow_take_buffer(struct fid_flow *flow);
size_t fid_flow_buffer_bytes(const struct fid_flow *flow);

/* Whoever lent a buffer that holds nothing any more may use it again. */
static inline void fid_flow_end_loan(struct fid_flow *flow)
{
	if (flow->buffer_is_lent && !flow->buffer_held) {
		flow->buffer = NULL;
		flow->buffer_is_lent = false;
	}
}

/* Gives back the pipe and the buffer, those that hold nothing. */
void fid_flow_release(struct fid_flow *flow);

/*
 * Whether a call on the sink may raise SIGPIPE. A step lets the signal through again at its
 * end, a run at its own, since two calls a step cost more than 1 % of a fast splice.
 */
bool fid_flow_raises_sigpipe(const struct fid_flow *flow);

/* The end: all is delivered, or an error. */
enum outcome fid_flow_finish(struct fid_flow *flow);
enum outcome fid_flow_end(struct fid_flow *flow, int error, enum fid_side side,
			  enum fid_call call);

/* Ends the flow with an error, which it returns; what it holds can be salvaged. */
int fid_flow_fail(struct fid_flow *flow, int error, enum fid_side side, enum fid_call call);

/* An error that means "not this way": nothing has moved, and another way may do. */
bool fid_is_refusal(enum fid_method method, int error);

/* One rung down, with an entry in the receipt. error 0: a call said "end of file" too early. */
enum outcome fid_flow_demote(struct fid_flow *flow, int error, enum fid_call call,
			     enum fid_side side);
/* One rung down in silence. */
enum outcome fid_flow_next_rung(struct fid_flow *flow);

/* EAGAIN, with side or without. */
enum outcome fid_flow_source_is_empty(struct fid_flow *flow);
enum outcome fid_flow_wait_for_sink(struct fid_flow *flow);

/* poll(2) found events of the sink that nobody asked for. */
enum outcome fid_flow_sink_has_events(struct fid_flow *flow, short events);

/* With FID_NOWAIT: whether to ask poll(2) first, and asking. MOVED: it is ready. */
bool fid_flow_must_ask(const struct fid_flow *flow, const struct fid_end *end);
bool fid_flow_must_ask_source(const struct fid_flow *flow);
enum outcome fid_flow_ask(struct fid_flow *flow, int fd, short events);
enum outcome fid_flow_ask_source(struct fid_flow *flow);

/* What to do after a call returned error. waiter is the side that EAGAIN means. */
enum outcome fid_flow_on_error(struct fid_flow *flow, enum fid_method method, int error,
			       enum fid_call call, enum fid_side side, enum fid_side waiter);

#endif
