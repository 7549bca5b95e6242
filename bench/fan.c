/* SPDX-License-Identifier: MIT */
/*
 * One pipe into several, each of 1 MiB and with a reader of its own.
 */
#include "produce.h"
#include "scenario.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { SINKS_MAX = CONSUMERS_MAX, SINKS_USUAL = 4, COPY_BYTES = 128 << 10 };

/* How many sinks there are now. */
static int sinks_count;

/* Where a mover has its sinks: one is its standard output, as that of tee(1) is. */
static const int sinks[SINKS_MAX] = {1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17};

static int by_reading(void)
{
	static _Alignas(4096) char buffer[COPY_BYTES];
	ssize_t got;

	while ((got = read(0, buffer, sizeof(buffer))) > 0) {
		for (int i = 0; i < sinks_count; i++) {
			for (ssize_t put = 0, once; put < got; put += once) {
				once = write(sinks[i], buffer + put, (size_t)(got - put));
				if (once < 0)
					return -errno;
			}
		}
	}
	return got < 0 ? -errno : 0;
}

/* How far each sink of the loop is, and how far the source. */
struct tees {
	uint64_t given[SINKS_MAX];
	uint64_t taken;
	int null;
};

static uint64_t least_given(const struct tees *tees)
{
	uint64_t least = tees->given[0];

	for (int i = 1; i < sinks_count; i++)
		least = tees->given[i] < least ? tees->given[i] : least;
	return least;
}

static uint64_t most_given(const struct tees *tees)
{
	uint64_t most = tees->given[0];

	for (int i = 1; i < sinks_count; i++)
		most = tees->given[i] > most ? tees->given[i] : most;
	return most;
}

/* Takes from the source what every sink has. */
static int take_away(struct tees *tees)
{
	uint64_t least = least_given(tees);

	while (tees->taken < least) {
		ssize_t gone = splice(0, NULL, tees->null, NULL, least - tees->taken, 0);

		if (gone < 0)
			return -errno;
		tees->taken += (uint64_t)gone;
	}
	return 0;
}

/* Those that have all that was taken sleep until they have room; if none lacks data, for data.
 */
static void wait_for_room(const struct tees *tees)
{
	struct pollfd fds[SINKS_MAX];
	unsigned count = 0;

	if (most_given(tees) == tees->taken)
		poll(&(struct pollfd){0, POLLIN, 0}, 1, -1);
	for (int i = 0; i < sinks_count; i++)
		if (tees->given[i] == tees->taken)
			fds[count++] = (struct pollfd){sinks[i], POLLOUT, 0};
	poll(fds, count, -1);
}

/*
 * tee(2) begins at the head of the source each time, so a sink that took less than another one
 * waits until the head has come as far as it is.
 */
static int by_tee(void)
{
	struct tees tees = {.null = open("/dev/null", O_WRONLY | O_CLOEXEC)};

	for (;;) {
		bool moved = false;
		int error = take_away(&tees);

		if (error < 0)
			return error;
		for (int i = 0; i < sinks_count; i++) {
			uint64_t ahead = most_given(&tees) - tees.taken;
			ssize_t given;

			if (tees.given[i] != tees.taken)
				continue;
			given = tee(0, sinks[i], ahead ? ahead : MIB, SPLICE_F_NONBLOCK);
			if (given == 0)
				return 0;
			if (given < 0 && errno != EAGAIN)
				return -errno;
			moved |= given > 0;
			tees.given[i] += given > 0 ? (uint64_t)given : 0;
		}
		if (!moved)
			wait_for_room(&tees);
	}
}

static int by_fan(void)
{
	const struct fid_fan_options options = {.size = sizeof(options)};
	const struct fid_fan_sink_options sink = {.size = sizeof(sink)};
	struct fid_fan *fan;
	int error = fid_fan_new(&fan, 0, &options);

	for (int i = 0; i < sinks_count && error >= 0; i++)
		error = fid_fan_add(fan, sinks[i], &sink);
	if (error < 0)
		return error;
	error = fid_fan_run(fan, -1);
	fid_fan_free(fan);
	return error;
}

/* Becomes tee(1) or what does its work, with a name for each sink but standard output. */
static int become_tee(const char **argv, size_t words)
{
	static char names[SINKS_MAX][16];

	for (int i = 1; i < sinks_count; i++) {
		snprintf(names[i], sizeof(names[i]), "/dev/fd/%d", sinks[i]);
		argv[words++] = names[i];
	}
	argv[words] = NULL;
	stage_become(argv);
}

static int by_command(void)
{
	const char *argv[SINKS_MAX + 2] = {"tee"};

	return become_tee(argv, 1);
}

static int by_fid_command(void)
{
	const char *argv[SINKS_MAX + 3] = {bench.fid, "tee"};

	return become_tee(argv, 2);
}

enum { READ, TEE, FAN, FID, COMMAND, ENTRANTS };

static const struct {
	int (*run)(void);
	bool is_command;
	bool tees; /* and so needs the larger volume for a cost to be seen */
} movers[ENTRANTS] = {
	[READ] = {by_reading, false, false},   [TEE] = {by_tee, false, true},
	[FAN] = {by_fan, false, true},         [FID] = {by_fid_command, true, true},
	[COMMAND] = {by_command, true, false},
};

struct fanning {
	enum reader reader;
	size_t entrant;
	uint64_t volume;
	unsigned consumer;
};

static void move(const void *about)
{
	const struct fanning *fanning = about;
	double before = seconds_of_cpu();

	account->error = -movers[fanning->entrant].run();
	account->cpu_s = seconds_of_cpu() - before;
}

/* Where vmsplice is refused the bytes are copied, for all entrants alike. */
static bool give(char *at, size_t bytes)
{
	int error = slab_send(at, bytes);

	if (error == -EPERM || error == -ENOSYS)
		error = write(1, at, bytes) == (ssize_t)bytes ? 0 : -errno;
	return error == 0;
}

/* By reference, so that the source costs next to nothing and every entrant finds it full. */
static void feed(const void *about)
{
	const struct fanning *fanning = about;
	char *slab = slab_new();

	memset(slab, 'f', SLAB_BYTES);
	for (uint64_t sent = 0; sent < fanning->volume; sent += 256 * KIB)
		if (!give(slab + sent % SLAB_BYTES, 256 * KIB))
			return;
}

static void consume(const void *about)
{
	const struct fanning *fanning = about;

	stage_consume(fanning->reader, fanning->reader == READER_READS ? 256 * KIB : MIB, 0,
		      fanning->consumer);
}

static bool take(const void *job, size_t entrant, struct sample *ret_sample)
{
	struct fanning fanning = *(const struct fanning *)job;
	bool is_command = movers[entrant].is_command;
	int mine[1 + SINKS_MAX], theirs[1 + SINKS_MAX];
	pid_t mover;
	double begin;
	int status;

	if (entrant == COMMAND && !bench.peers)
		return false;
	fanning.entrant = entrant;
	fanning.volume = bench.volume / 8;
	if (movers[entrant].tees && fanning.reader == READER_SPLICES)
		fanning.volume *= 8;
	stage_begin();
	stage_pipe(MIB, &mine[0], &theirs[0]);
	for (int i = 0; i < sinks_count; i++) {
		stage_pipe(MIB, &theirs[1 + i], &mine[1 + i]);
		fanning.consumer = (unsigned)i;
		stage_child((int[]){theirs[1 + i], -1}, 2, consume, &fanning);
	}
	begin = seconds_now();
	stage_child((int[]){-1, theirs[0]}, 2, feed, &fanning);
	mover = stage_child(mine, 1 + (size_t)sinks_count, move, &fanning);
	stage_close(mine, 1 + (size_t)sinks_count);
	stage_close(theirs, 1 + (size_t)sinks_count);
	status = stage_wait(mover, is_command, begin, ret_sample);
	ret_sample->bytes = account->consumed[0];
	for (int i = 1; i < sinks_count; i++)
		if (account->consumed[i] < ret_sample->bytes)
			ret_sample->bytes = account->consumed[i];
	stage_judge(status, is_command, fanning.volume, ret_sample);
	return true;
}

static void run_contest(const struct scenario *scenario, enum reader reader)
{
	static struct result results[ENTRANTS];
	char name[64], title[96];
	const struct fanning job = {.reader = reader};
	const struct contest contest = {
		.name = name,
		.title = title,
		.scenario = scenario->name,
		.at = (size_t)sinks_count,
		.shares = 5,
		.mark = "read, and a write for each sink, 128 KiB a call",
		.count = ENTRANTS,
		.names = {[READ] = "read/writes",
			  [TEE] = "tee loop",
			  [FAN] = "fid_fan",
			  [FID] = "fid tee",
			  [COMMAND] = "tee"},
		.take = take,
		.job = &job,
		.versus = {{FAN, TEE}, {FID, COMMAND}},
	};
	const char *plural = sinks_count == 1 ? "" : "s";

	/* The usual number has the name of the scenario alone. */
	snprintf(name, sizeof(name), "%s-%d", scenario->name, sinks_count);
	if (sinks_count == SINKS_USUAL)
		snprintf(name, sizeof(name), "%s", scenario->name);
	snprintf(title, sizeof(title), "pipe -> %d pipe%s of 1 MiB, readers %s", sinks_count,
		 plural, reader == READER_READS ? "read 256 KiB" : "splice");
	contest_run(&contest, results);
}

static void run_all(const struct scenario *scenario, enum reader reader)
{
	json_open("fan", '[');
	for (sinks_count = 1; sinks_count <= SINKS_MAX; sinks_count *= 2)
		run_contest(scenario, reader);
	json_close(']');
}

void fan_read_run(const struct scenario *scenario)
{
	run_all(scenario, READER_READS);
}

void fan_splice_run(const struct scenario *scenario)
{
	run_all(scenario, READER_SPLICES);
}
