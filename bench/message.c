/* SPDX-License-Identifier: MIT */
/*
 * Messages through a relay between two TCP connections over loopback. Each one is sent when the
 * one before it has arrived whole, so that the relay sees messages and not a stream: where the
 * relay is woken for each, a copy of few bytes costs less than two calls that move them.
 */
#include "pair.h"
#include "scenario.h"

#include <errno.h>
#include <fid.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_WRITE, SPLICE, LIBRARY, RELAYS, MESSAGE_MAX = 1 << 20 };

struct relaying {
	size_t bytes; /* of a message */
	size_t count;
	size_t relay;
};

/* Descriptor 0 tells of arrivals, 1 is the connection. */
static void send_messages(const void *about)
{
	const struct relaying *relaying = about;
	static char message[MESSAGE_MAX], arrived;

	stage_pin(1);
	for (size_t i = 0; i < relaying->count; i++) {
		for (size_t done = 0; done < relaying->bytes;) {
			ssize_t put = write(1, message + done, relaying->bytes - done);

			if (put < 0)
				return;
			done += (size_t)put;
		}
		if (read(0, &arrived, 1) != 1)
			return;
	}
}

/* Descriptor 0 is the connection, 1 tells of arrivals. */
static void take_messages(const void *about)
{
	const struct relaying *relaying = about;
	static char buffer[256 * KIB];
	size_t part = 0;
	ssize_t got;

	stage_pin(1);
	while ((got = read(0, buffer, sizeof(buffer))) > 0) {
		account->consumed[0] += (uint64_t)got;
		part += (size_t)got;
		/* More than a message cannot be on its way. */
		account->wrong += part > relaying->bytes;
		if (part < relaying->bytes)
			continue;
		part = 0;
		if (write(1, buffer, 1) != 1)
			return;
	}
}

static void relay(const void *about)
{
	static const struct pair none = {.name = "relay"};
	static const struct loop loops[] = {
		[READ_WRITE] = {LOOP_READ_WRITE, 256 * KIB},
		[SPLICE] = {LOOP_SPLICE_PIPE, 256 * KIB, 256 * KIB},
	};
	const struct fid_options options = {.size = sizeof(options)};
	const struct relaying *relaying = about;
	int64_t moved;
	double before;

	stage_pin(0);
	before = seconds_of_cpu();
	if (relaying->relay == LIBRARY)
		moved = fid_copy(0, 1, &options, NULL);
	else
		moved = loop_run(&none, &loops[relaying->relay]);
	account->error = moved < 0 ? (int)-moved : 0;
	account->cpu_s = seconds_of_cpu() - before;
}

static void make_connection(int *ret_read_end, int *ret_write_end)
{
	const int yes = 1;

	stage_connection(ret_read_end, ret_write_end);
	/* A message that waits for the one before it to be acknowledged would wait for us. */
	setsockopt(*ret_write_end, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
}

/* As many messages as take about as long as the volume would, if each costs some 10 us. */
static size_t count_messages(size_t bytes)
{
	size_t count = bench.volume / (bytes + 32 * KIB);

	return count > 4 ? count : 4;
}

static bool take(const void *job, size_t entrant, struct sample *ret_sample)
{
	struct relaying relaying = *(const struct relaying *)job;
	int source, feed, drain, sink, arrived, arrives;
	pid_t mover;
	double begin;
	int status;

	relaying.relay = entrant;
	relaying.count = count_messages(relaying.bytes);
	make_connection(&source, &feed);
	make_connection(&drain, &sink);
	stage_pipe(0, &arrived, &arrives);
	stage_begin();
	stage_child((int[]){drain, arrives}, 2, take_messages, &relaying);
	begin = seconds_now();
	stage_child((int[]){arrived, feed}, 2, send_messages, &relaying);
	mover = stage_child((int[]){source, sink}, 2, relay, &relaying);
	stage_close((int[]){source, feed, drain, sink, arrived, arrives}, 6);
	status = stage_wait(mover, false, begin, ret_sample);
	ret_sample->bytes = account->consumed[0];
	stage_judge(status, false, (uint64_t)relaying.bytes * relaying.count, ret_sample);
	return true;
}

static void run_point(const struct scenario *scenario, size_t bytes, unsigned points)
{
	static struct result results[RELAYS];
	const struct relaying job = {.bytes = bytes};
	char name[64];
	const struct contest contest = {
		.name = name,
		.title = "messages one by one, TCP -> TCP over loopback",
		.scenario = scenario->name,
		.at = bytes,
		.shares = points,
		.mark = "read and write, 256 KiB a call",
		.count = RELAYS,
		.names = {[READ_WRITE] = "read/write",
			  [SPLICE] = "splice-pipe",
			  [LIBRARY] = "fid_copy"},
		.take = take,
		.job = &job,
		.versus = {{LIBRARY, SPLICE}},
	};

	snprintf(name, sizeof(name), "%s-%zu", scenario->name, bytes);
	contest_run(&contest, results);
}

void sweep_message_run(const struct scenario *scenario)
{
	json_open("sweeps", '[');
	for (size_t bytes = 64; bytes <= MESSAGE_MAX; bytes *= 4)
		run_point(scenario, bytes, 8);
	json_close(']');
}
