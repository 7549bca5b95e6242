/* SPDX-License-Identifier: MIT */
#include "crowd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- The source ---- */

static void *feed_by_vmsplice(void *argument)
{
	struct peer *peer = argument;
	size_t done = 0;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	while (done < peer->count) {
		uint64_t number = test_random(&peer->random);
		size_t most = number & 1 ? 60000 : number & 2 ? 5000 : 50;
		size_t piece = (number >> 8) % most + 1;
		struct iovec segment = {(void *)(uintptr_t)(peer->bytes + done),
					piece < peer->count - done ? piece
								   : peer->count - done};
		/* Now and then a copy, which joins what is in the last slot. */
		ssize_t moved = number & 4 ? vmsplice(peer->fd, &segment, 1, 0)
					   : write(peer->fd, segment.iov_base, segment.iov_len);

		if (moved < 0 && errno == EINTR)
			continue;
		if (moved < 0)
			break;
		done += (size_t)moved;
	}
	close(peer->fd);
	return NULL;
}

static void open_vmspliced(struct end *source, const unsigned char *bytes, size_t size)
{
	int fds[2];

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	*source = (struct end){.kind = END_PIPE, .fd = fds[0]};
	source->peer = (struct peer){.fd = fds[1], .bytes = bytes, .count = size, .watch = -1};
	source->peer.random = test_seed();
	CHECK(pthread_create(&source->peer.thread, NULL, feed_by_vmsplice, &source->peer) == 0);
	source->peer.runs = true;
}

void crowd_open(struct crowd *crowd, enum end_kind source, const unsigned char *bytes,
		size_t size, const struct fid_fan_options *options)
{
	static _Atomic uint64_t number;

	*crowd = (struct crowd){.bytes = bytes, .size = size};
	crowd->random = test_seed() + ++number;
	if (source == END_VMSPLICED)
		open_vmspliced(&crowd->source, bytes, size);
	else
		end_open_source(&crowd->source, source, bytes, size, true);
	CHECK_EQUAL(fid_fan_new(&crowd->fan, crowd->source.fd, options), 0);
	crowd->source_flags = fcntl(crowd->source.fd, F_GETFL);
}

/* ---- The sinks ---- */

static struct member *new_member(struct crowd *crowd, int fd,
				 const struct fid_fan_sink_options *options)
{
	struct member *member = &crowd->member[crowd->count];

	CHECK_EQUAL(fid_fan_add(crowd->fan, fd, options), crowd->count);
	crowd->count++;
	member->fd = fd;
	member->status_flags = fcntl(fd, F_GETFL);
	member->spill = options && options->on_slow == FID_SLOW_SPILL ? options->spill : -1;
	return member;
}

int crowd_add_fd(struct crowd *crowd, int fd, const struct fid_fan_sink_options *options)
{
	CHECK(crowd->count < CROWD_MAX);
	new_member(crowd, fd, options)->has_peer = false;
	return (int)crowd->count - 1;
}

int crowd_add(struct crowd *crowd, enum end_kind kind, int pipe_bytes, bool slow,
	      const struct fid_fan_sink_options *options)
{
	struct member *member = &crowd->member[crowd->count];

	CHECK(crowd->count < CROWD_MAX);
	end_open_sink(&member->end, kind, crowd->bytes, crowd->size, slow);
	if (pipe_bytes)
		CHECK(fcntl(member->end.fd, F_SETPIPE_SZ, pipe_bytes) >= 0);
	if (test_random(&crowd->random) & 1)
		end_nonblocking(&member->end);
	new_member(crowd, member->end.fd, options)->has_peer = true;
	return (int)crowd->count - 1;
}

void crowd_add_any(struct crowd *crowd)
{
	static const enum end_kind kinds[] = {
		END_PIPE, END_PIPE, END_PIPE,  END_PIPE,   END_PIPE,  END_FIFO, END_TCP,
		END_UNIX, END_FILE, END_TMPFS, END_APPEND, END_MEMFD, END_NULL, END_PIPE,
	};
	static const int pipe_sizes[] = {4096, 8192, 65536, 131072, 1 << 20, 0};
	struct fid_fan_sink_options options = {.size = sizeof(options)};
	uint64_t number = test_random(&crowd->random);
	enum end_kind kind = kinds[number % (sizeof(kinds) / sizeof(kinds[0]))];

	/* A terminal is slow; one is enough. */
	if (crowd->count == 3)
		kind = END_PTY;
	number >>= 8;
	options.on_slow = number % 3;
	if (options.on_slow != FID_SLOW_WAIT)
		options.stall_ms = 20000;
	if (options.on_slow == FID_SLOW_SPILL) {
		options.spill = memfd_create("spill", MFD_CLOEXEC);
		CHECK(options.spill >= 0);
		options.spill_bytes_max = number & 0x100 ? 100000 : 0;
	}
	number >>= 16;
	crowd_add(crowd, kind, kind == END_PIPE ? pipe_sizes[number % 6] : 0, number & 0x100,
		  number & 0x200 || options.on_slow ? &options : NULL);
}

/* ---- Going on ---- */

const char *drive_name(enum drive drive)
{
	static const char *const names[DRIVES] = {"run", "slices", "step"};

	return names[drive];
}

void crowd_check(struct crowd *crowd)
{
	const struct fid_receipt *whole = fid_fan_receipt(crowd->fan);

	receipt_check(whole);
	for (unsigned i = 0; i < crowd->count; i++) {
		const struct fid_receipt *receipt = fid_fan_sink_receipt(crowd->fan, (int)i);

		CHECK(receipt != NULL);
		receipt_check(receipt);
		/* A pipe may be ahead of what was taken, since tee(2) takes nothing. */
		if (receipt->error == 0 && receipt->bytes_in < whole->bytes_out)
			FAIL("all have %llu bytes, but sink %u has %llu",
			     (unsigned long long)whole->bytes_out, i,
			     (unsigned long long)receipt->bytes_in);
	}
}

static uint64_t progress(struct crowd *crowd)
{
	uint64_t sum = fid_fan_receipt(crowd->fan)->bytes_in;

	for (unsigned i = 0; i < crowd->count; i++) {
		const struct fid_receipt *receipt = fid_fan_sink_receipt(crowd->fan, (int)i);

		sum += receipt->bytes_in + receipt->bytes_out + (receipt->error != 0);
	}
	return sum;
}

/* What it waits for and how far each sink is. */
static void describe(struct crowd *crowd)
{
	for (size_t i = 0; crowd->waits && i < crowd->wait.count; i++)
		test_note("it waits for events %#x of %d, which has %#x",
			  crowd->wait.fds[i].events, crowd->wait.fds[i].fd,
			  crowd->wait.fds[i].revents);
	for (unsigned i = 0; i < crowd->count; i++) {
		const struct fid_receipt *receipt = fid_fan_sink_receipt(crowd->fan, (int)i);

		test_note("sink %u is %d: %llu in, %llu out, %s", i, crowd->member[i].fd,
			  (unsigned long long)receipt->bytes_in,
			  (unsigned long long)receipt->bytes_out,
			  fid_error_name(receipt->error));
	}
	test_note("the source is %d: %llu in, %llu out", crowd->source.fd,
		  (unsigned long long)fid_fan_receipt(crowd->fan)->bytes_in,
		  (unsigned long long)fid_fan_receipt(crowd->fan)->bytes_out);
}

static void wait_for(struct crowd *crowd)
{
	const struct fid_fan_wait *wait = &crowd->wait;
	int timeout_ms = wait->timeout_ms < 0 ? 5000 : wait->timeout_ms;

	CHECK(wait->count > 0 || wait->timeout_ms >= 0);
	if (poll(wait->fds, wait->count, timeout_ms) == 0 && wait->timeout_ms < 0) {
		describe(crowd);
		FAIL("nothing happens on what it waits for");
	}
	crowd->waits = false;
}

int crowd_step(struct crowd *crowd)
{
	int got;

	if (crowd->waits)
		wait_for(crowd);
	got = fid_fan_step(crowd->fan, &crowd->wait);
	crowd->waits = got == FID_WAIT;
	crowd_check(crowd);
	return got;
}

static int drive_steps(struct crowd *crowd)
{
	uint64_t before = progress(crowd), after;
	unsigned fruitless = 0;
	int got;

	while ((got = crowd_step(crowd)) > 0 || got == -EINTR) {
		after = progress(crowd);
		fruitless = after == before ? fruitless + 1 : 0;
		before = after;
		if (fruitless > 2000) {
			if (crowd->waits)
				wait_for(crowd);
			crowd->waits = got == FID_WAIT;
			describe(crowd);
			FAIL("%u steps without progress", fruitless);
		}
	}
	return got;
}

int crowd_drive(struct crowd *crowd, enum drive drive)
{
	int got;

	do {
		switch (drive) {
		case DRIVE_RUN:
			got = fid_fan_run(crowd->fan, -1);
			break;
		case DRIVE_SLICES:
			got = fid_fan_run(crowd->fan, 1);
			if (got == -ETIMEDOUT &&
			    fid_fan_receipt(crowd->fan)->error != -ETIMEDOUT)
				got = -EINTR;
			break;
		default:
			got = drive_steps(crowd);
			break;
		}
		crowd_check(crowd);
	} while (got == -EINTR);
	return got;
}

/* ---- The end ---- */

void crowd_check_complete(struct crowd *crowd, int number, size_t size)
{
	const struct fid_receipt *receipt = fid_fan_sink_receipt(crowd->fan, number);

	if (receipt->error)
		FAIL("sink %d (%s) ended with %s after %llu bytes", number,
		     crowd->member[number].has_peer ? end_name(crowd->member[number].end.kind)
						    : "own",
		     fid_error_name(receipt->error), (unsigned long long)receipt->bytes_out);
	CHECK_EQUAL(receipt->bytes_out, size);
	CHECK_EQUAL(receipt->bytes_held, 0);
}

size_t crowd_salvage(struct crowd *crowd, int number)
{
	const struct fid_receipt *receipt = number < 0
						    ? fid_fan_receipt(crowd->fan)
						    : fid_fan_sink_receipt(crowd->fan, number);
	size_t held = (size_t)receipt->bytes_held, done = 0;
	uint64_t delivered = receipt->bytes_out;
	unsigned char *buffer = malloc(held + 1);
	ssize_t piece;

	CHECK(buffer);
	do {
		size_t ask = 1 + test_random(&crowd->random) % (held - done + 1);

		piece = fid_fan_salvage(crowd->fan, number, buffer + done, ask);
		CHECK(piece >= 0 && (size_t)piece <= ask);
		done += (size_t)piece;
	} while (piece > 0);
	CHECK_EQUAL(done, held);
	CHECK(memcmp(buffer, crowd->bytes + delivered, held) == 0);
	free(buffer);
	receipt = number < 0 ? fid_fan_receipt(crowd->fan)
			     : fid_fan_sink_receipt(crowd->fan, number);
	receipt_check(receipt);
	CHECK_EQUAL(receipt->bytes_held, 0);
	CHECK_EQUAL(receipt->bytes_salvaged, held);
	return held;
}

void crowd_close(struct crowd *crowd)
{
	uint64_t delivered[CROWD_MAX];

	for (unsigned i = 0; i < crowd->count; i++)
		delivered[i] = fid_fan_sink_receipt(crowd->fan, (int)i)->bytes_out;
	CHECK(fid_fan_free(crowd->fan) == NULL);
	CHECK_EQUAL(fcntl(crowd->source.fd, F_GETFL), crowd->source_flags);
	end_close_source(&crowd->source);
	for (unsigned i = 0; i < crowd->count; i++) {
		struct member *member = &crowd->member[i];

		CHECK_EQUAL(fcntl(member->fd, F_GETFL), member->status_flags);
		if (member->spill >= 0)
			CHECK(close(member->spill) == 0);
		if (!member->has_peer)
			continue;
		doing("the end of sink %u, %s", i, end_name(member->end.kind));
		CHECK_EQUAL(end_close_sink(&member->end, crowd->bytes, crowd->size,
					   (size_t)delivered[i]),
			    delivered[i]);
	}
}
