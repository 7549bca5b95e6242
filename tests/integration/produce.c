/* SPDX-License-Identifier: MIT */
#include "produce.h"

#include "ends.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

const char *memory_mode_name(enum fid_memory_mode mode)
{
	static const char *const names[FID_MEMORY_MODES] = {"copy", "fresh", "const", "lend"};

	return names[mode];
}

const char *way_name(enum way way)
{
	static const char *const names[WAYS] = {"run", "slices", "step"};

	return names[way];
}

static size_t random_size(struct producer *producer)
{
	size_t left = producer->count - producer->done;
	uint64_t number = test_random(&producer->random);
	size_t max = producer->record_max;
	size_t size;

	if (producer->record_min <= 1 && number % 3 == 0)
		max = 200;
	else if (producer->record_min <= 1 && number % 3 == 1)
		max = 7000;
	if (max > producer->record_max)
		max = producer->record_max;
	size = producer->record_min + (number >> 8) % (max - producer->record_min + 1);
	return size < left ? size : left;
}

/* Fills room for one record and a little more, which is not committed. */
static int fill_one(struct producer *producer, size_t bytes)
{
	size_t spare = test_random(&producer->random) % 300;
	size_t ask = bytes + spare <= FID_MEMORY_RESERVE_MAX ? bytes + spare : bytes;
	unsigned char *at = NULL;
	void *room = NULL;
	ssize_t got;

	/* Now and then a reservation is taken back with bytes in it. */
	if (test_random(&producer->random) % 8 == 0) {
		got = fid_memory_reserve(producer->memory, spare, &room);
		if (got < 0)
			return (int)got;
		CHECK(got >= (ssize_t)spare && got > 0);
		memset(room, 0xee, spare + !spare);
	}
	got = fid_memory_reserve(producer->memory, ask, &room);
	if (got < 0)
		return (int)got;
	CHECK(got >= (ssize_t)ask);
	at = room;
	memcpy(at, producer->bytes + producer->done, bytes);
	memset(at + bytes, 0xee, ask - bytes);
	CHECK_EQUAL(fid_memory_commit(producer->memory, bytes), 0);
	return 0;
}

static int lend_one(struct producer *producer, size_t bytes)
{
	struct iovec segments[5];
	size_t count = 0, at = 0;

	while (at < bytes && count < 5) {
		size_t piece = count == 4 ? bytes - at
					  : test_random(&producer->random) % (bytes - at + 1);

		segments[count++] = (struct iovec){
			(void *)(uintptr_t)(producer->bytes + producer->done + at), piece};
		at += piece;
	}
	return fid_memory_lend(producer->memory, segments, count);
}

int producer_next(struct producer *producer, size_t record)
{
	size_t bytes = record ? record : random_size(producer);
	int got;

	CHECK(bytes > 0 && bytes <= producer->count - producer->done);
	switch (producer->mode) {
	case FID_MEMORY_CONST:
		got = fid_memory_queue(producer->memory, producer->done, bytes);
		break;
	case FID_MEMORY_LEND:
		got = lend_one(producer, bytes);
		break;
	default:
		got = fill_one(producer, bytes);
		break;
	}
	if (got == 0)
		producer->done += bytes;
	producer->refusals += got == -EAGAIN;
	return got;
}

void producer_open(struct producer *producer, enum fid_memory_mode mode, int sink,
		   uint32_t flags, const unsigned char *bytes, size_t count)
{
	static _Atomic uint64_t number;
	struct fid_memory_options options = {
		.size = sizeof(options), .flags = flags, .mode = mode};

	/* Room for what is reserved beyond a record. */
	if (mode == FID_MEMORY_CONST)
		options.bytes_max = count + 1000;
	*producer = (struct producer){.mode = mode,
				      .bytes = bytes,
				      .count = count,
				      .sink = sink,
				      .record_min = 1,
				      .record_max = FID_MEMORY_RESERVE_MAX,
				      .random = test_seed() + ++number};
	CHECK_EQUAL(fid_memory_new(&producer->memory, sink, &options), 0);
	if (mode != FID_MEMORY_CONST)
		return;
	while (producer->done < count) {
		size_t bytes_now = random_size(producer);

		CHECK_EQUAL(fill_one(producer, bytes_now), 0);
		producer->done += bytes_now;
	}
	CHECK_EQUAL(fid_memory_seal(producer->memory), 0);
	producer->done = 0;
}

/* What a step that waits asks for can come true, and is about the sink. */
static void wait_for_sink(const struct producer *producer, struct pollfd *wait)
{
	CHECK_EQUAL(wait->fd, producer->sink);
	CHECK_EQUAL(wait->events, POLLOUT);
	if (poll(wait, 1, 5000) == 0)
		FAIL("the sink does not become ready");
}

int producer_push(struct producer *producer, enum way way)
{
	struct pollfd wait = {.fd = -2};
	int got;

	switch (way) {
	case WAY_RUN:
		got = fid_memory_run(producer->memory, -1);
		break;
	case WAY_SLICES:
		got = fid_memory_run(producer->memory, 1);
		if (got == -ETIMEDOUT && fid_memory_receipt(producer->memory)->error == 0) {
			producer->timeouts++;
			got = FID_WAIT;
		}
		break;
	default:
		got = fid_memory_step(producer->memory, &wait);
		if (got == FID_WAIT)
			wait_for_sink(producer, &wait);
		else
			CHECK_EQUAL(wait.fd, -1);
		break;
	}
	receipt_check(fid_memory_receipt(producer->memory));
	return got;
}

void producer_finish(struct producer *producer, enum way way)
{
	unsigned fruitless = 0;
	int got;

	while (producer->done < producer->count) {
		uint64_t before = fid_memory_receipt(producer->memory)->bytes_out;

		got = producer_next(producer, 0);
		if (got != -EAGAIN) {
			CHECK_EQUAL(got, 0);
			if (test_random(&producer->random) % 3)
				continue;
		}
		got = producer_push(producer, way);
		if (got < 0)
			FAIL("%s", fid_error_name(got));
		fruitless = fid_memory_receipt(producer->memory)->bytes_out == before
				    ? fruitless + 1
				    : 0;
		if (fruitless > 20000)
			FAIL("nothing is sent any more");
	}
	while ((got = producer_push(producer, way)) > 0)
		;
	CHECK_EQUAL(got, 0);
	CHECK_EQUAL(fid_memory_receipt(producer->memory)->bytes_held, 0);
}

void producer_close(struct producer *producer)
{
	CHECK(fid_memory_free(producer->memory) == NULL);
	producer->memory = NULL;
}

size_t producer_salvage(struct producer *producer)
{
	const struct fid_receipt *receipt = fid_memory_receipt(producer->memory);
	size_t held = (size_t)receipt->bytes_held, done = 0;
	uint64_t delivered = receipt->bytes_out;
	unsigned char *buffer = malloc(held + 1);
	ssize_t piece;

	CHECK(buffer);
	receipt_check(receipt);
	CHECK_EQUAL(delivered + held, producer->done);
	if (producer->mode == FID_MEMORY_LEND) {
		/* The memory is the caller's: there is nothing to hand over. */
		CHECK_EQUAL(fid_memory_salvage(producer->memory, buffer, held), -EINVAL);
		free(buffer);
		return held;
	}
	do {
		size_t ask = 1 + test_random(&producer->random) % (held - done + 1);

		piece = fid_memory_salvage(producer->memory, buffer + done, ask);
		CHECK(piece >= 0 && (size_t)piece <= ask);
		done += (size_t)piece;
	} while (piece > 0);
	CHECK_EQUAL(done, held);
	CHECK(memcmp(buffer, producer->bytes + delivered, held) == 0);
	free(buffer);
	receipt = fid_memory_receipt(producer->memory);
	receipt_check(receipt);
	CHECK_EQUAL(receipt->bytes_held, 0);
	CHECK_EQUAL(receipt->bytes_salvaged, held);
	return held;
}
