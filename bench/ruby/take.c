/* SPDX-License-Identifier: MIT */
/*
 * One sample: a mover, in C or in Ruby, moves the bytes of a stage once. It has one CPU, and
 * its producer and its consumer have another one.
 */
#include "ruby.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <string.h>
#include <unistd.h>

struct setting {
	const struct stage *stage;
	const struct mover *mover;
	uint64_t volume;
	unsigned times;   /* the source file is moved so many times */
	int source, sink; /* of the mover */
	int feed, drain;  /* of the producer and the consumer, or -1 */
};

static void produce(const void *about)
{
	const struct setting *setting = about;
	static char buffer[256 * KIB];

	stage_pin(1);
	memset(buffer, 'f', sizeof(buffer));
	for (uint64_t left = setting->volume; left > 0;) {
		ssize_t put = write(1, buffer, left < sizeof(buffer) ? left : sizeof(buffer));

		if (put < 0)
			return;
		left -= (uint64_t)put;
	}
}

static void consume(const void *about)
{
	const struct setting *setting = about;

	stage_pin(1);
	stage_consume(setting->stage->pair.reader, MIB, 0, 0);
}

static int64_t move_once(const struct setting *setting)
{
	const struct stage *stage = setting->stage;
	const struct fid_options options = {.size = sizeof(options)};

	if (stage->pair.source == END_FILE)
		lseek(0, 0, SEEK_SET);
	if (setting->mover->kind == MOVER_HAND)
		return loop_run(&stage->pair, &stage->pair.hand);
	if (setting->mover->kind == MOVER_POLLED)
		return polled_run(&stage->polled);
	return fid_copy(0, 1, &options, NULL);
}

static void move_in_c(const void *about)
{
	const struct setting *setting = about;
	double before;

	stage_pin(0);
	before = seconds_of_cpu();
	for (unsigned i = 0; i < setting->times && account->error == 0; i++) {
		int64_t moved = move_once(setting);

		account->error = moved < 0 ? (int)-moved : 0;
	}
	account->cpu_s = seconds_of_cpu() - before;
}

/* Hands the descriptors 0 and 1 to the worker, whose socket is 3, and waits for it. */
static void move_in_ruby(const void *about)
{
	const struct setting *setting = about;
	const struct loop *loop = &setting->stage->polled;

	worker_tell(3, (int[]){0, 1}, 2, "move\t%s\t%u\t%zu\t%zu", setting->mover->how,
		    setting->times, loop->bytes,
		    loop->call == LOOP_SPLICE_PIPE ? loop->pipe : 0);
	/* The consumer sees the end when the worker closes its own. */
	close(0);
	close(1);
	mover_note_answer(3);
}

static void make_ends(struct setting *setting)
{
	const struct pair *pair = &setting->stage->pair;

	if (pair->source == END_PIPE)
		stage_pipe(pair->source_pipe, &setting->source, &setting->feed);
	else if (pair->source == END_TCP)
		stage_connection(&setting->source, &setting->feed);
	else
		setting->source = open(source_file(bench.volume), O_RDONLY | O_CLOEXEC);
	if (setting->source < 0)
		fail("the source");
	if (pair->sink == END_PIPE)
		stage_pipe(pair->sink_pipe, &setting->drain, &setting->sink);
	else
		stage_connection(&setting->drain, &setting->sink);
	/* As Ruby makes its own pipes and sockets. The other ends are not concerned. */
	if (setting->mover->kind == MOVER_HAND)
		return;
	if (pair->source != END_FILE)
		fcntl(setting->source, F_SETFL, O_NONBLOCK);
	fcntl(setting->sink, F_SETFL, O_NONBLOCK);
}

bool stage_take(const struct stage *stage, const struct mover *mover, struct sample *ret_sample)
{
	struct setting setting = {.stage = stage, .mover = mover, .feed = -1, .drain = -1};
	unsigned more = mover->splices ? stage->pair.splicing_times : 1;
	int socket = -1;
	pid_t pid;
	double begin;
	int status;

	if (mover->kind == MOVER_RUBY) {
		worker_rest();
		socket = worker_socket();
	}
	setting.times = stage->pair.source == END_FILE ? more : 1;
	setting.volume = (uint64_t)bench.volume * more;
	make_ends(&setting);
	mover_begin();
	stage_child((int[]){setting.drain, -1}, 2, consume, &setting);
	begin = seconds_now();
	if (setting.feed >= 0)
		stage_child((int[]){-1, setting.feed}, 2, produce, &setting);
	if (socket >= 0)
		pid = stage_child((int[]){setting.source, setting.sink, socket}, 3,
				  move_in_ruby, &setting);
	else
		pid = stage_child((int[]){setting.source, setting.sink}, 2, move_in_c,
				  &setting);
	stage_close((int[]){setting.source, setting.sink, setting.feed, setting.drain}, 4);
	status = stage_wait(pid, false, begin, ret_sample);
	ret_sample->bytes = account->consumed[0];
	mover_judge(status, setting.volume, ret_sample);
	return true;
}
