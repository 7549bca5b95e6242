/* SPDX-License-Identifier: MIT */
/*
 * Data that the producer makes anew, into a pipe of 1 MiB.
 */
#include "produce.h"
#include "scenario.h"

#include <errno.h>
#include <fid.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ_BYTES = 64 << 10 };

static int by_write(const struct production *production)
{
	static _Alignas(4096) char buffer[256 * KIB];
	uint64_t number = 0;

	for (uint64_t sent = 0; sent < production->volume; number++) {
		fill_block(buffer, production->block, number);
		for (size_t done = 0; done < production->block;) {
			ssize_t put = write(1, buffer + done, production->block - done);

			if (put < 0)
				return -errno;
			done += (size_t)put;
		}
		sent += production->block;
	}
	return 0;
}

/*
 * The best that is known by hand: two huge pages in turn, each dropped when its turn comes
 * again. By then the pipe has let go of it, so that it is freed by this process and is the next
 * one that this process gets, warm. One that is dropped as soon as it is sent is freed by the
 * reader, on the reader's CPU, and costs half as much again (measured on 6.18).
 */
static int by_fresh_pages(const struct production *production)
{
	char *slabs[2] = {slab_new(), slab_new()};
	uint64_t number = 0;
	size_t turn = 0, at = 0;
	int error;

	for (uint64_t sent = 0; sent < production->volume; number++) {
		fill_block(slabs[turn] + at, production->block, number);
		error = slab_send(slabs[turn] + at, production->block);
		if (error < 0)
			return error;
		at += production->block;
		sent += production->block;
		if (at < SLAB_BYTES)
			continue;
		turn ^= 1;
		at = 0;
		if (madvise(slabs[turn], SLAB_BYTES, MADV_DONTNEED) < 0)
			return -errno;
	}
	return 0;
}

static int by_memory(const struct production *production, enum fid_memory_mode mode)
{
	const struct fid_memory_options options = {.size = sizeof(options), .mode = mode};
	struct fid_memory *memory;
	uint64_t number = 0;
	int error = fid_memory_new(&memory, 1, &options);

	if (error < 0)
		return error;
	for (uint64_t sent = 0; sent < production->volume && error == 0; number++) {
		void *at;
		ssize_t room = fid_memory_reserve(memory, production->block, &at);

		if (room < 0)
			return (int)room;
		fill_block(at, production->block, number);
		error = fid_memory_commit(memory, production->block);
		if (error == 0)
			error = fid_memory_run(memory, -1);
		sent += production->block;
	}
	fid_memory_free(memory);
	return error;
}

static int by_copy(const struct production *production)
{
	return by_memory(production, FID_MEMORY_COPY);
}

static int by_fresh(const struct production *production)
{
	return by_memory(production, FID_MEMORY_FRESH);
}

/*
 * What many programs do and none should: a ring of twice the pipe, which is written again when
 * the pipe cannot hold its old bytes any more. A second pipe or a socket behind this one may.
 */
static int by_lent_ring(const struct production *production)
{
	const struct fid_memory_options options = {
		.size = sizeof(options),
		.mode = FID_MEMORY_LEND,
	};
	struct iovec segment = {.iov_len = production->block};
	struct fid_memory *memory;
	char *ring = slab_new();
	uint64_t number = 0;
	int error = fid_memory_new(&memory, 1, &options);

	if (error < 0)
		return error;
	for (uint64_t sent = 0; sent < production->volume && error == 0; number++) {
		segment.iov_base = ring + sent % SLAB_BYTES;
		fill_block(segment.iov_base, production->block, number);
		error = fid_memory_lend(memory, &segment, 1);
		if (error == 0)
			error = fid_memory_run(memory, -1);
		sent += production->block;
	}
	fid_memory_free(memory);
	return error;
}

enum { WRITE, BY_HAND, COPY, FRESH, LEND, ENTRANTS };

static int (*const producers[ENTRANTS])(const struct production *) = {
	[WRITE] = by_write, [BY_HAND] = by_fresh_pages, [COPY] = by_copy,
	[FRESH] = by_fresh, [LEND] = by_lent_ring,
};

static bool take(const void *job, size_t entrant, struct sample *ret_sample)
{
	struct production production = *(const struct production *)job;

	production.run = producers[entrant];
	production.volume = bench.volume / 4;
	produce_sample(&production, ret_sample);
	return true;
}

static void run_contest(const struct scenario *scenario, enum reader reader, size_t block)
{
	static struct result results[ENTRANTS];
	char name[64], title[96];
	const struct production job = {
		.reader = reader,
		.read_bytes = reader == READER_READS ? READ_BYTES : MIB,
		.block = block,
		.is_numbered = true,
	};
	const struct contest contest = {
		.name = name,
		.title = title,
		.scenario = scenario->name,
		.at = block,
		.shares = 4,
		.mark = "each block is filled and written",
		.count = ENTRANTS,
		.names = {[WRITE] = "write()",
			  [BY_HAND] = "fresh by hand",
			  [COPY] = "fid copy",
			  [FRESH] = "fid fresh",
			  [LEND] = "fid lend, UNSAFE"},
		.take = take,
		.job = &job,
		.versus = {{FRESH, BY_HAND}},
	};

	snprintf(name, sizeof(name), "%s-%zuk", scenario->name, block / KIB);
	snprintf(title, sizeof(title), "new data in blocks of %zu KiB -> pipe, reader %ss",
		 block / KIB, reader == READER_READS ? "read" : "splice");
	contest_run(&contest, results);
}

/* What making the data costs in each of the entrants, as long as it stays in the cache. */
static void add_fill(void)
{
	static _Alignas(4096) char buffer[64 * KIB];
	double cost[ROUNDS_MIN];
	size_t volume = bench.volume_max / 4;
	struct summary fill;
	uint64_t number = 0;

	if (json_get(json_root(), "fill_s_per_gb"))
		return;
	for (unsigned round = 0; round < ROUNDS_MIN; round++) {
		double before = seconds_of_cpu();

		for (size_t done = 0; done < volume; done += sizeof(buffer)) {
			fill_block(buffer, sizeof(buffer), number++);
			/* Nobody may think that the stores are not needed. */
			__asm__ volatile("" : : "r"(buffer) : "memory");
		}
		cost[round] = (seconds_of_cpu() - before) / ((double)volume / 1e9);
	}
	fill = summarise(cost, ROUNDS_MIN);
	json_summary("fill_s_per_gb", &fill);
}

static void run_all(const struct scenario *scenario, enum reader reader)
{
	add_fill();
	json_open("memory", '[');
	for (size_t block = 4 * KIB; block <= 256 * KIB; block *= 4)
		run_contest(scenario, reader, block);
	json_close(']');
}

void memory_read_run(const struct scenario *scenario)
{
	run_all(scenario, READER_READS);
}

void memory_splice_run(const struct scenario *scenario)
{
	run_all(scenario, READER_SPLICES);
}
