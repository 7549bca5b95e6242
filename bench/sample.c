/* SPDX-License-Identifier: MIT */
/*
 * One sample: an entrant moves the bytes of a pair once, with a producer and a consumer if the
 * pair needs them, and what it used is read from the kernel.
 */
#include "pair.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One sample in the making. */
struct setting {
	const struct pair *pair;
	const struct entrant *entrant;
	uint64_t volume;
	unsigned times; /* the source file is moved so many times */
	const char *source_path;
	char sink_path[4096];
	int source, sink; /* of the mover */
	int feed;         /* the producer's end, or -1 */
	int drain;        /* the consumer's end, or -1 */
	const char *argv[ARGUMENTS_MAX];
};

static void produce(const void *about)
{
	const struct setting *setting = about;
	static char buffer[256 * KIB];

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

	stage_consume(setting->pair->reader, MIB, 0, 0);
}

static void move_in_process(const void *about)
{
	const struct setting *setting = about;
	const struct pair *pair = setting->pair;
	size_t usual = pair->source == END_FILE ? 128 * KIB : 256 * KIB;
	const struct loop read_write = {LOOP_READ_WRITE,
					pair->copy_bytes ? pair->copy_bytes : usual};
	const struct fid_options options = {
		.size = sizeof(options),
		.flags = pair->library_flags,
	};
	double before = seconds_of_cpu();

	for (unsigned i = 0; i < setting->times && account->error == 0; i++) {
		int64_t moved = 0;

		if (pair->source == END_FILE)
			lseek(0, 0, SEEK_SET);
		if (setting->entrant->kind == ENTRANT_LIBRARY)
			moved = fid_copy(0, 1, &options, NULL);
		else if (setting->entrant->kind == ENTRANT_HAND)
			moved = loop_run(pair, &pair->hand);
		else
			moved = loop_run(pair, &read_write);
		account->error = moved < 0 ? (int)-moved : 0;
	}
	account->cpu_s = seconds_of_cpu() - before;
}

static void move_by_command(const void *about)
{
	const struct setting *setting = about;

	stage_become(setting->argv);
}

static void make_source(struct setting *setting)
{
	const struct pair *pair = setting->pair;

	if (pair->source == END_PIPE)
		stage_pipe(pair->source_pipe, &setting->source, &setting->feed);
	else if (pair->source == END_TCP)
		stage_connection(&setting->source, &setting->feed);
	else
		setting->source = open(setting->source_path, O_RDONLY | O_CLOEXEC);
	if (setting->source < 0)
		fail("the source");
}

static bool is_file(enum end end)
{
	return end == END_FILE || end == END_MEMORY;
}

static void make_sink(struct setting *setting)
{
	const struct pair *pair = setting->pair;

	if (pair->sink == END_PIPE)
		stage_pipe(pair->sink_pipe, &setting->drain, &setting->sink);
	else if (pair->sink == END_TCP)
		stage_connection(&setting->drain, &setting->sink);
	else if (is_file(pair->source) && setting->entrant->names_files)
		return;
	else
		setting->sink =
			open(setting->sink_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (setting->sink < 0)
		fail(setting->sink_path);
}

/* What arrived at a file. Its pages are dropped before they need to be written back. */
static uint64_t end_file(const char *path)
{
	struct stat stat;

	if (lstat(path, &stat) < 0)
		return 0;
	unlink(path);
	return (uint64_t)stat.st_size;
}

static void run_setting(const struct setting *setting, struct sample *ret_sample)
{
	bool is_command = setting->entrant->command != NULL;
	int ends[] = {setting->source, setting->sink, setting->feed, setting->drain};
	pid_t mover;
	double begin;
	int status;

	stage_begin();
	if (setting->drain >= 0)
		stage_child((int[]){setting->drain, -1}, 2, consume, setting);
	begin = seconds_now();
	if (setting->feed >= 0)
		stage_child((int[]){-1, setting->feed}, 2, produce, setting);
	mover = stage_child(ends, 2, is_command ? move_by_command : move_in_process, setting);
	stage_close(ends, sizeof(ends) / sizeof(ends[0]));
	status = stage_wait(mover, is_command, begin, ret_sample);
	ret_sample->bytes = is_file(setting->pair->sink) ? end_file(setting->sink_path)
							 : account->consumed[0];
	stage_judge(status, is_command, setting->volume, ret_sample);
}

bool sample_take(const struct pair *pair, const struct entrant *entrant,
		 struct sample *ret_sample)
{
	struct setting setting = {
		.pair = pair,
		.entrant = entrant,
		.source_path = is_file(pair->source) ? source_file(bench.volume) : "",
		.sink = -1,
		.feed = -1,
		.drain = -1,
	};
	unsigned more = entrant->splices ? pair->splicing_times : 1;

	setting.times = pair->source == END_FILE ? more : 1;
	setting.volume = (uint64_t)bench.volume * more;
	if (is_file(pair->sink))
		snprintf(setting.sink_path, sizeof(setting.sink_path), "%s/sink",
			 pair->sink == END_FILE ? bench.dir : bench.memory_dir);
	if (entrant->kind == ENTRANT_PEER && !bench.peers)
		return false;
	if (entrant->command && !entrant->command(pair, setting.times, setting.source_path,
						  setting.sink_path, setting.argv))
		return false;
	make_source(&setting);
	make_sink(&setting);
	run_setting(&setting, ret_sample);
	return true;
}
