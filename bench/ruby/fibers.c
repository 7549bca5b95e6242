/* SPDX-License-Identifier: MIT */
/*
 * A thousand copies at once on one thread: fibers in Ruby, event loops in C. One process feeds
 * all sources, as fast as they take it, and another one empties all sinks.
 */
#include "../table.h"
#include "ruby.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_S = 120, EVENTS = 256, SPARE_DESCRIPTORS = 64 };

struct meeting {
	const char *name;
	const char *title;
	const char *mark;
	bool by_sockets;
};

static const struct meeting meetings[] = {
	{"ruby-fibers-pipe", "copies at once, pipe -> pipe, all of 64 KiB",
	 "epoll and splice, 64 KiB a call", false},
	{"ruby-fibers-socket", "copies at once, Unix socket -> Unix socket",
	 "epoll and splice through a pipe of 64 KiB for each copy", true},
};

enum { HAND, FLOWS, COPY, DROP_IN, CORE, READ, MOVERS };

static const struct {
	const char *name;
	const char *how;
} movers[MOVERS] = {
	[HAND] = {"C epoll loop", NULL},
	[FLOWS] = {"fid_flow_step in C", NULL},
	[COPY] = {"Fid.copy", "Fid.copy"},
	[DROP_IN] = {"IO::Splice.copy_stream", "IO::Splice.copy_stream"},
	[CORE] = {"IO.copy_stream", "IO.copy_stream"},
	[READ] = {"readpartial 16 KiB", "readpartial 16"},
};

static struct crowd crowd;
static int feeds[COPIES_MAX];
static int drains[COPIES_MAX];
static uint64_t moved[COPIES_MAX];

static void close_all(const int *descriptors)
{
	for (size_t i = 0; i < crowd.count; i++)
		close(descriptors[i]);
}

static void make_link(bool by_sockets, int *ret_read_end, int *ret_write_end)
{
	int ends[2];

	if (by_sockets
		    ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends)
		    : pipe2(ends, O_NONBLOCK | O_CLOEXEC))
		fail("descriptors for a thousand copies");
	*ret_read_end = ends[0];
	*ret_write_end = ends[1];
}

/* ---- Around the mover ---- */

/* Whether this one has moved all that it has to, or all that there is. */
typedef bool turn_function(size_t at);

static bool feed_one(size_t at)
{
	static char buffer[64 * KIB];
	uint64_t left = crowd.bytes - moved[at];
	ssize_t put = write(feeds[at], buffer, left < sizeof(buffer) ? left : sizeof(buffer));

	if (put < 0)
		return errno != EAGAIN;
	moved[at] += (uint64_t)put;
	return moved[at] == crowd.bytes;
}

static bool drain_one(size_t at)
{
	static char buffer[64 * KIB];
	ssize_t got = read(drains[at], buffer, sizeof(buffer));

	if (got < 0 && errno == EAGAIN)
		return false;
	if (got > 0) {
		moved[at] += (uint64_t)got;
		account->consumed[0] += (uint64_t)got;
		return false;
	}
	/* Each copy has to be whole, not only the sum. */
	account->wrong += moved[at] != crowd.bytes;
	return true;
}

static void take_turns(const int *descriptors, uint32_t wanted, turn_function *turn)
{
	struct epoll_event events[EVENTS];
	size_t left = crowd.count;
	int loop = epoll_create1(EPOLL_CLOEXEC);

	for (size_t at = 0; at < crowd.count; at++) {
		struct epoll_event event = {wanted, {.u64 = at}};

		epoll_ctl(loop, EPOLL_CTL_ADD, descriptors[at], &event);
	}
	while (left > 0) {
		int count = epoll_wait(loop, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			size_t at = events[i].data.u64;

			if (!turn(at))
				continue;
			close(descriptors[at]);
			left--;
		}
	}
}

/* Like stage_child(), which has not so many places for descriptors. */
static pid_t child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(PATIENCE_S);
	}
	return pid;
}

/* It begins when nobody holds the gate's other end any more. */
static void feeder(const int *gate)
{
	char byte;

	if (child())
		return;
	stage_pin(1);
	close(gate[1]);
	close_all(crowd.sources);
	close_all(crowd.sinks);
	close_all(drains);
	if (read(gate[0], &byte, 1) == 0)
		take_turns(feeds, EPOLLOUT, feed_one);
	_exit(0);
}

static void drainer(const int *gate)
{
	if (child())
		return;
	stage_pin(1);
	close(gate[1]);
	close_all(crowd.sources);
	close_all(crowd.sinks);
	close_all(feeds);
	take_turns(drains, EPOLLIN, drain_one);
	_exit(0);
}

/* ---- The movers ---- */

static void move_in_c(const struct meeting *meeting, size_t mover, int gate)
{
	double cpu, wall;

	stage_pin(0);
	cpu = seconds_of_cpu();
	wall = seconds_now();
	close(gate);
	account->error = -(mover == HAND ? crowd_by_hand(&crowd, meeting->by_sockets)
					 : crowd_by_flows(&crowd));
	account->cpu_s = seconds_of_cpu() - cpu;
	told->wall_s = seconds_now() - wall;
}

/* The sources and the sinks go to the worker by turns, as many as fit into a message. */
static void hand_over(int socket)
{
	int both[2 * COPIES_MAX];

	for (size_t at = 0; at < crowd.count; at++) {
		both[2 * at] = crowd.sources[at];
		both[2 * at + 1] = crowd.sinks[at];
	}
	for (size_t done = 0; done < 2 * crowd.count; done += DESCRIPTORS_AT_ONCE) {
		size_t left = 2 * crowd.count - done;

		worker_tell(socket, both + done,
			    left < DESCRIPTORS_AT_ONCE ? left : DESCRIPTORS_AT_ONCE, "ends");
	}
	close_all(crowd.sources);
	close_all(crowd.sinks);
}

static void move_in_ruby(const char *how, int socket, int gate)
{
	char answer[MESSAGE_MAX];

	worker_tell(socket, NULL, 0, "fibers\t%s\t%zu", how, crowd.count);
	hand_over(socket);
	if (worker_hear(socket, answer, sizeof(answer)) && strcmp(answer, "ready") == 0) {
		close(gate);
		worker_tell(socket, NULL, 0, "go");
	}
	mover_note_answer(socket);
}

static pid_t begin_mover(const struct meeting *meeting, size_t mover, const int *gate)
{
	const char *how = movers[mover].how;
	int socket = how ? worker_socket() : -1;
	pid_t pid = child();

	if (pid > 0)
		return pid;
	close_all(feeds);
	close_all(drains);
	if (how)
		move_in_ruby(how, socket, gate[1]);
	else
		move_in_c(meeting, mover, gate[1]);
	_exit(0);
}

static bool take(const void *job, size_t mover, struct sample *ret_sample)
{
	const struct meeting *meeting = job;
	int gate[2];
	pid_t pid;
	int status;

	stage_pipe(0, &gate[0], &gate[1]);
	memset(moved, 0, sizeof(moved));
	for (size_t at = 0; at < crowd.count; at++) {
		make_link(meeting->by_sockets, &crowd.sources[at], &feeds[at]);
		make_link(meeting->by_sockets, &drains[at], &crowd.sinks[at]);
	}
	mover_begin();
	feeder(gate);
	drainer(gate);
	pid = begin_mover(meeting, mover, gate);
	stage_close(gate, 2);
	close_all(crowd.sources);
	close_all(crowd.sinks);
	close_all(feeds);
	close_all(drains);
	status = stage_wait(pid, false, seconds_now(), ret_sample);
	/* Of the work alone, without the way of the descriptors to the worker. */
	ret_sample->wall_s = told->wall_s;
	ret_sample->bytes = account->consumed[0];
	mover_judge(status, crowd.bytes * crowd.count, ret_sample);
	if (account->wrong && !told->failure[0])
		snprintf(ret_sample->failure, sizeof(ret_sample->failure),
			 "%llu copies are not whole", (unsigned long long)account->wrong);
	return true;
}

static void run_meeting(const struct meeting *meeting)
{
	static struct result results[ENTRANTS_MAX];
	char title[128];
	struct contest contest = {
		.name = meeting->name,
		.title = title,
		.mark = meeting->mark,
		.count = MOVERS,
		.take = take,
		.job = meeting,
		.versus = {{COPY, FLOWS}, {DROP_IN, COPY}, {COPY, CORE}, {COPY, READ}},
	};

	snprintf(title, sizeof(title), "%zu %s, %llu KiB each", crowd.count, meeting->title,
		 (unsigned long long)crowd.bytes / KIB);
	for (size_t at = 0; at < MOVERS; at++)
		contest.names[at] = movers[at].name;
	fprintf(stderr, "%s ...\n", contest.name);
	table_contest(stdout, contest_run(&contest, results));
	for (size_t at = COPY; at <= READ; at++)
		if (is_sound(&results[at]) && is_sound(&results[HAND]))
			conclusion_add(meeting->name, movers[at].name, &results[at],
				       &results[HAND], NULL);
}

/* This process and the feeder need two for each copy, and the mover in C up to four. */
static void set_count(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	crowd.count = COPIES_MAX;
	if (limit.rlim_cur < 4 * COPIES_MAX + SPARE_DESCRIPTORS)
		crowd.count = (limit.rlim_cur - SPARE_DESCRIPTORS) / 4;
}

void fibers_run(void)
{
	/* Before the worker starts, which inherits the limit. */
	worker_end();
	set_count();
	crowd.bytes = 256 * KIB;
	json_open("fibers", '[');
	for (size_t i = 0; i < sizeof(meetings) / sizeof(meetings[0]); i++)
		if (is_chosen(meetings[i].name))
			run_meeting(&meetings[i]);
	json_close(']');
}
