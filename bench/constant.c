/* SPDX-License-Identifier: MIT */
/*
 * The same bytes over and over, into a pipe of 1 MiB: what yes(1) does.
 */
#include "produce.h"
#include "scenario.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Linux 6.1; older headers do not have it. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* The blocks of a slab one after the other, until the volume is sent. */
static int send_over_and_over(const struct production *production, char *slab)
{
	int error = 0;

	for (uint64_t sent = 0; sent < production->volume && error == 0;) {
		error = slab_send(slab + sent % SLAB_BYTES, production->block);
		sent += production->block;
	}
	return error;
}

/* The fastest there is: nothing but the program itself keeps it from changing the bytes. */
static int by_huge_page(const struct production *production)
{
	char *slab = slab_new();

	memset(slab, 'y', SLAB_BYTES);
	return send_over_and_over(production, slab);
}

/* Maps the file at an address where a huge page may be. */
static void *map_aligned(int fd, int protection)
{
	char *at = mmap(NULL, 2 * SLAB_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return MAP_FAILED;
	at += -(uintptr_t)at & (SLAB_BYTES - 1);
	return mmap(at, SLAB_BYTES, protection, MAP_SHARED | MAP_FIXED, fd, 0);
}

/* By hand what fid does: nobody can change the bytes. */
static int by_sealed_file(const struct production *production)
{
	int fd = memfd_create("constant", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char *slab;

	if (fd < 0 || ftruncate(fd, SLAB_BYTES) < 0)
		return -errno;
	slab = map_aligned(fd, PROT_READ | PROT_WRITE);
	if (slab == MAP_FAILED)
		return -errno;
	memset(slab, 'y', SLAB_BYTES);
	/* Where this is refused the pages stay small. */
	madvise(slab, SLAB_BYTES, MADV_COLLAPSE);
	munmap(slab, SLAB_BYTES);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return -errno;
	slab = map_aligned(fd, PROT_READ);
	if (slab == MAP_FAILED)
		return -errno;
	return send_over_and_over(production, slab);
}

static int fill_constant(struct fid_memory *memory)
{
	for (size_t done = 0; done < SLAB_BYTES; done += FID_MEMORY_RESERVE_MAX) {
		void *at;
		ssize_t room = fid_memory_reserve(memory, FID_MEMORY_RESERVE_MAX, &at);
		int error;

		if (room < 0)
			return (int)room;
		memset(at, 'y', FID_MEMORY_RESERVE_MAX);
		error = fid_memory_commit(memory, FID_MEMORY_RESERVE_MAX);
		if (error < 0)
			return error;
	}
	return fid_memory_seal(memory);
}

static int by_fid(const struct production *production)
{
	const struct fid_memory_options options = {
		.size = sizeof(options),
		.mode = FID_MEMORY_CONST,
	};
	struct fid_memory *memory;
	int error = fid_memory_new(&memory, 1, &options);

	if (error < 0)
		return error;
	error = fill_constant(memory);
	for (uint64_t sent = 0; sent < production->volume && error == 0;) {
		error = fid_memory_queue(memory, sent % SLAB_BYTES, production->block);
		if (error == 0)
			error = fid_memory_run(memory, -1);
		sent += production->block;
	}
	fid_memory_free(memory);
	return error;
}

static int by_yes(const struct production *production)
{
	static const char *const argv[] = {"yes", NULL};

	stage_become(argv);
}

enum { BY_HAND, HUGE, FID, YES, ENTRANTS };

static int (*const producers[ENTRANTS])(const struct production *) = {
	[BY_HAND] = by_sealed_file,
	[HUGE] = by_huge_page,
	[FID] = by_fid,
	[YES] = by_yes,
};

static bool take(const void *job, size_t entrant, struct sample *ret_sample)
{
	struct production production = *(const struct production *)job;

	if (entrant == YES && !bench.peers)
		return false;
	production.run = producers[entrant];
	production.is_command = entrant == YES;
	/* For a cost to be seen, where a call hardly costs anything. */
	production.volume = entrant == YES ? bench.volume / 4 : 2 * (uint64_t)bench.volume;
	produce_sample(&production, ret_sample);
	return true;
}

static void run_contest(const struct scenario *scenario, enum reader reader, const char *title)
{
	static struct result results[ENTRANTS];
	const struct production job = {
		.reader = reader,
		.read_bytes = reader == READER_READS ? 64 * KIB : MIB,
		.block = 256 * KIB,
	};
	const struct contest contest = {
		.name = scenario->name,
		.title = title,
		.mark = "vmsplice of a sealed memfd in a huge page, 256 KiB a call",
		.count = ENTRANTS,
		.names = {[BY_HAND] = "by hand",
			  [HUGE] = "anonymous page",
			  [FID] = "fid const",
			  [YES] = "yes"},
		.take = take,
		.job = &job,
		.versus = {{FID, YES}, {FID, HUGE}},
	};

	json_open("constant", '[');
	contest_run(&contest, results);
	json_close(']');
}

void constant_read_run(const struct scenario *scenario)
{
	run_contest(scenario, READER_READS,
		    "the same bytes -> pipe of 1 MiB, reader reads 64 KiB");
}

void constant_splice_run(const struct scenario *scenario)
{
	run_contest(scenario, READER_SPLICES,
		    "the same bytes -> pipe of 1 MiB, reader splices");
}
