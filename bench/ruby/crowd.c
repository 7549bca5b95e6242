/* SPDX-License-Identifier: MIT */
/*
 * A crowd of copies on one thread, in C: what an event loop costs that does nothing else. All
 * descriptors have O_NONBLOCK.
 */
#include "ruby.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS = 256 };

/* What one event of copy number at leads to: FID_DONE, anything above it, or -errno. */
typedef int step_function(const struct crowd *crowd, size_t at);

/* Each event is an edge, so a step goes on until the kernel says EAGAIN. */
static int run_loop(const struct crowd *crowd, step_function *step)
{
	static bool is_done[COPIES_MAX];
	struct epoll_event events[EVENTS];
	size_t left = crowd->count;
	int loop = epoll_create1(EPOLL_CLOEXEC);
	int result = 0;

	if (loop < 0)
		return -errno;
	for (size_t at = 0; at < crowd->count; at++) {
		struct epoll_event in = {EPOLLIN | EPOLLET, {.u64 = at}};
		struct epoll_event out = {EPOLLOUT | EPOLLET, {.u64 = at}};

		is_done[at] = false;
		if (epoll_ctl(loop, EPOLL_CTL_ADD, crowd->sources[at], &in) < 0 ||
		    epoll_ctl(loop, EPOLL_CTL_ADD, crowd->sinks[at], &out) < 0)
			return -errno;
	}
	while (left > 0 && result >= 0) {
		int count = epoll_wait(loop, events, EVENTS, -1);

		if (count < 0)
			return -errno;
		for (int i = 0; i < count && result >= 0; i++) {
			size_t at = events[i].data.u64;

			if (is_done[at])
				continue;
			result = step(crowd, at);
			if (result != FID_DONE)
				continue;
			is_done[at] = true;
			left--;
			close(crowd->sources[at]);
			close(crowd->sinks[at]);
		}
	}
	close(loop);
	return result < 0 ? result : 0;
}

/* ---- By hand ---- */

static struct {
	int pipe[2];
	size_t held;
} hops[COPIES_MAX];

static int no_progress(ssize_t moved)
{
	return moved == 0 ? FID_DONE : errno == EAGAIN ? FID_WAIT : -errno;
}

static int step_straight(const struct crowd *crowd, size_t at)
{
	ssize_t moved;

	do
		moved = splice(crowd->sources[at], NULL, crowd->sinks[at], NULL, 64 * KIB,
			       SPLICE_F_NONBLOCK);
	while (moved > 0);
	return no_progress(moved);
}

static int step_through_pipe(const struct crowd *crowd, size_t at)
{
	for (;;) {
		ssize_t moved;

		if (hops[at].held == 0) {
			moved = splice(crowd->sources[at], NULL, hops[at].pipe[1], NULL,
				       64 * KIB, SPLICE_F_NONBLOCK);
			if (moved <= 0)
				return no_progress(moved);
			hops[at].held = (size_t)moved;
		}
		moved = splice(hops[at].pipe[0], NULL, crowd->sinks[at], NULL, hops[at].held,
			       SPLICE_F_NONBLOCK);
		if (moved <= 0)
			return moved == 0 ? -EIO : no_progress(moved);
		hops[at].held -= (size_t)moved;
	}
}

int crowd_by_hand(const struct crowd *crowd, bool through_pipes)
{
	int result;

	for (size_t at = 0; through_pipes && at < crowd->count; at++) {
		hops[at].held = 0;
		if (pipe2(hops[at].pipe, O_CLOEXEC | O_NONBLOCK) < 0)
			return -errno;
	}
	result = run_loop(crowd, through_pipes ? step_through_pipe : step_straight);
	for (size_t at = 0; through_pipes && at < crowd->count; at++) {
		close(hops[at].pipe[0]);
		close(hops[at].pipe[1]);
	}
	return result;
}

/* ---- By flows ---- */

static struct fid_flow *flows[COPIES_MAX];

static int step_flow(const struct crowd *crowd, size_t at)
{
	int step;

	do
		step = fid_flow_step(flows[at], NULL);
	while (step == FID_MORE);
	if (step != FID_WAIT)
		flows[at] = fid_flow_free(flows[at]);
	return step;
}

int crowd_by_flows(const struct crowd *crowd)
{
	for (size_t at = 0; at < crowd->count; at++) {
		int error = fid_flow_new(&flows[at], crowd->sources[at], crowd->sinks[at], NULL,
					 NULL);

		if (error < 0)
			return error;
	}
	return run_loop(crowd, step_flow);
}
