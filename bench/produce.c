/* SPDX-License-Identifier: MIT */
#include "produce.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096 };

void fill_block(void *at, size_t bytes, uint64_t number)
{
	uint64_t *words = at;

	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		words[i] = number;
}

void *slab_new(void)
{
	char *reserved = mmap(NULL, 2 * SLAB_BYTES, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (reserved == MAP_FAILED)
		fail("mmap");
	reserved += -(uintptr_t)reserved & (SLAB_BYTES - 1);
	madvise(reserved, SLAB_BYTES, MADV_HUGEPAGE);
	return reserved;
}

int slab_send(void *at, size_t bytes)
{
	struct iovec segment = {at, bytes};

	while (segment.iov_len > 0) {
		ssize_t sent = vmsplice(1, &segment, 1, 0);

		if (sent < 0)
			return -errno;
		segment.iov_base = (char *)segment.iov_base + sent;
		segment.iov_len -= (size_t)sent;
	}
	return 0;
}

static void produce(const void *about)
{
	const struct production *production = about;
	double before;

	stage_pin(0);
	before = seconds_of_cpu();
	account->error = -production->run(production);
	account->cpu_s = seconds_of_cpu() - before;
}

/* Looks at one word a page, so that the check costs next to nothing. */
static uint64_t count_wrong(const char *buffer, size_t bytes, uint64_t at, size_t block)
{
	uint64_t wrong = 0;

	for (size_t i = -at % PAGE; i + sizeof(uint64_t) <= bytes; i += PAGE) {
		uint64_t word;

		memcpy(&word, buffer + i, sizeof(word));
		wrong += word != (at + i) / block;
	}
	return wrong;
}

static void consume(const void *about)
{
	const struct production *production = about;
	static char buffer[256 * KIB];
	ssize_t got;

	stage_pin(1);
	if (production->reader == READER_SPLICES || !production->is_numbered) {
		stage_consume(production->reader, production->read_bytes, production->volume,
			      0);
		return;
	}
	while ((got = read(0, buffer, production->read_bytes)) > 0) {
		account->wrong += count_wrong(buffer, (size_t)got, account->consumed[0],
					      production->block);
		account->consumed[0] += (uint64_t)got;
	}
}

void produce_sample(const struct production *production, struct sample *ret_sample)
{
	int ends[2];
	pid_t mover;
	double begin;
	int status;

	stage_pipe(MIB, &ends[0], &ends[1]);
	stage_begin();
	stage_child((int[]){ends[0], -1}, 2, consume, production);
	begin = seconds_now();
	mover = stage_child((int[]){-1, ends[1]}, 2, produce, production);
	stage_close(ends, 2);
	status = stage_wait(mover, production->is_command, begin, ret_sample);
	ret_sample->bytes = account->consumed[0];
	stage_judge(status, production->is_command, production->volume, ret_sample);
}
