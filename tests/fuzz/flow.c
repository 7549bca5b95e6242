/* SPDX-License-Identifier: MIT */
/*
 * A flow between real descriptors, driven by a schedule that the input chooses: bytes arrive,
 * the sink is read, either far end goes away, held bytes are salvaged, steps happen in between.
 * After each event the account must be exact; in the end each byte that the receipt calls
 * delivered must be in the sink, in order, and each byte taken must be there or salvaged.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STREAM_MAX = 1 << 20, STEPS_MAX = 20000 };

enum kind { PIPE, UNIX_SOCKET, REGULAR, KINDS };

struct world {
	struct fid_flow *flow;
	struct fid_pool *pool;
	enum kind source_kind, sink_kind;
	int source, sink; /* the flow's ends */
	int feed, drain;  /* our ends; -1: gone, or the kind has none */
	uint64_t fed;     /* bytes of the stream that the source has been given */
	uint64_t limit;   /* bytes_max */
	uint64_t accounted;
	uint64_t drained;
	uint64_t delivered;
	uint64_t salvaged;
	int result; /* of the last step; 1: not ended */
	bool sink_gone;
	uint8_t *expected; /* what the sink must have received */
};

/* The stream: no two places within reach of each other look alike for long. */
static uint8_t stream(uint64_t at)
{
	return (uint8_t)((at * 0x9e3779b97f4a7c15u) >> 56 ^ at);
}

static void set_nonblocking(int fd)
{
	REQUIRE(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
}

static void feed(struct world *world, size_t bytes)
{
	uint8_t buffer[16384];
	ssize_t written;

	if (world->feed < 0)
		return;
	if (bytes > sizeof(buffer))
		bytes = sizeof(buffer);
	if (bytes > STREAM_MAX - world->fed)
		bytes = (size_t)(STREAM_MAX - world->fed);
	for (size_t i = 0; i < bytes; i++)
		buffer[i] = stream(world->fed + i);
	/* A regular source grows at its end, wherever the flow reads. */
	if (world->source_kind == REGULAR)
		written = pwrite(world->feed, buffer, bytes, (off_t)world->fed);
	else
		written = write(world->feed, buffer, bytes);
	if (written > 0)
		world->fed += (uint64_t)written;
}

static void drain(struct world *world, size_t bytes)
{
	uint8_t buffer[16384];
	ssize_t got;

	if (world->drain < 0)
		return;
	if (bytes > sizeof(buffer))
		bytes = sizeof(buffer);
	if (world->sink_kind == REGULAR)
		got = pread(world->drain, buffer, bytes, (off_t)world->drained);
	else
		got = read(world->drain, buffer, bytes);
	if (got <= 0)
		return;
	REQUIRE(world->drained + (uint64_t)got <= world->delivered);
	REQUIRE(memcmp(buffer, world->expected + world->drained, (size_t)got) == 0);
	world->drained += (uint64_t)got;
}

/* Reads the receipt, checks it, and notes what is newly delivered. */
static const struct fid_receipt *account(struct world *world)
{
	const struct fid_receipt *receipt = fid_flow_receipt(world->flow);
	uint64_t classes = 0;
	uint64_t methods = 0;

	REQUIRE(receipt != NULL);
	for (int i = 0; i < FID_CLASSES; i++)
		classes += receipt->by_class[i];
	for (int i = 0; i < FID_ROUTES; i++)
		methods += receipt->by_method[i];
	REQUIRE(receipt->bytes_in ==
		receipt->bytes_out + receipt->bytes_held + receipt->bytes_salvaged);
	REQUIRE(receipt->bytes_out == classes);
	REQUIRE(receipt->bytes_out == methods);
	REQUIRE(receipt->bytes_in <= world->fed);
	REQUIRE(receipt->bytes_salvaged == world->salvaged);
	REQUIRE(receipt->bytes_out >= world->delivered);
	if (world->limit)
		REQUIRE(receipt->bytes_in <= world->limit);
	for (; world->delivered < receipt->bytes_out; world->delivered++)
		world->expected[world->delivered] = stream(world->delivered + world->salvaged);
	return receipt;
}

static int step(struct world *world)
{
	struct pollfd wait[2] = {{.fd = -2}, {.fd = -2}};
	int result = fid_flow_step(world->flow, wait);

	REQUIRE(result <= FID_WAIT);
	if (result == FID_WAIT) {
		/* It must say what it waits for. */
		REQUIRE(wait[0].fd == world->source || wait[1].fd == world->sink);
		REQUIRE((wait[0].fd >= 0 && wait[0].events) ||
			(wait[1].fd >= 0 && wait[1].events));
	} else {
		REQUIRE(wait[0].fd == -1 && wait[1].fd == -1);
	}
	/* What ended a flow is repeated. */
	if (world->result <= 0)
		REQUIRE(result == world->result);
	world->result = result > 0 ? 1 : result;
	account(world);
	return result;
}

/* The same through run, which with a time-out of 0 moves what moves at once. */
static void run(struct world *world)
{
	int result = fid_flow_run(world->flow, 0);

	REQUIRE(result <= 0 && result != -EINTR);
	if (world->result <= 0)
		REQUIRE(result == world->result);
	else if (result != -ETIMEDOUT)
		world->result = result;
	account(world);
}

static void salvage(struct world *world, size_t bytes)
{
	uint8_t buffer[8192];
	uint64_t held = account(world)->bytes_held;
	ssize_t got;

	if (bytes > sizeof(buffer))
		bytes = sizeof(buffer);
	got = fid_flow_salvage(world->flow, buffer, bytes);
	REQUIRE(got >= 0 && (size_t)got <= bytes && (uint64_t)got <= held);
	if (bytes > 0 && held > 0)
		REQUIRE(got > 0);
	for (ssize_t i = 0; i < got; i++)
		REQUIRE(buffer[i] == stream(world->delivered + world->salvaged + (uint64_t)i));
	world->salvaged += (uint64_t)got;
	account(world);
}

static void close_feed(struct world *world)
{
	if (world->feed < 0)
		return;
	/* The regular source is one descriptor for both. */
	if (world->source_kind != REGULAR)
		close(world->feed);
	world->feed = -1;
}

static void close_drain(struct world *world)
{
	if (world->drain < 0 || world->sink_kind == REGULAR)
		return;
	close(world->drain);
	world->drain = -1;
	world->sink_gone = true;
}

static void make_pair(enum kind kind, int ends[2])
{
	if (kind == PIPE) {
		REQUIRE(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
	} else if (kind == UNIX_SOCKET) {
		int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

		REQUIRE(socketpair(AF_UNIX, type, 0, ends) == 0);
	} else {
		ends[0] = ends[1] = memfd_create("fid", MFD_CLOEXEC);
		REQUIRE(ends[0] >= 0);
	}
}

/* Goes on until the flow ends; with a far end gone that must come soon. */
static void finish(struct world *world)
{
	int steps = 0;

	close_feed(world);
	while (world->result > 0) {
		int result = step(world);

		REQUIRE(++steps < STEPS_MAX);
		drain(world, SIZE_MAX);
		if (result == FID_WAIT && world->drain < 0) {
			/* The source is at its end and the sink is gone: nothing to wait for.
			 */
			struct pollfd fd = {.fd = world->sink, .events = POLLOUT};

			REQUIRE(poll(&fd, 1, 0) == 1);
		}
	}
	while (account(world)->bytes_held > 0)
		salvage(world, SIZE_MAX);
	if (world->result == FID_DONE) {
		uint64_t taken = world->delivered + world->salvaged;

		/* A regular source may grow after its end was seen. */
		if (world->source_kind == REGULAR)
			REQUIRE(taken <= world->fed);
		else
			REQUIRE(taken == (world->limit && world->limit < world->fed
						  ? world->limit
						  : world->fed));
	} else {
		REQUIRE(world->sink_gone);
		REQUIRE(world->result == -EPIPE || world->result == -ECONNRESET);
		REQUIRE(account(world)->error_side == FID_SIDE_SINK);
		REQUIRE(account(world)->error == world->result);
	}
	if (world->drain >= 0) {
		uint64_t before;

		do {
			before = world->drained;
			drain(world, SIZE_MAX);
		} while (world->drained != before);
		REQUIRE(world->drained == world->delivered);
	}
}

static void start(struct world *world, struct input *input)
{
	static const uint32_t flags[] = {0, FID_STABLE, FID_NOWAIT, FID_GROW_PIPES};
	uint32_t choice = input_byte(input);
	int ends[2];
	struct fid_pool_options pool = {.size = sizeof(pool),
					.pipes_max = 1 + input_byte(input) % 4};
	struct fid_options options = {.size = sizeof(options)};

	world->source_kind = choice % KINDS;
	world->sink_kind = choice / KINDS % KINDS;
	options.flags = flags[choice / (KINDS * KINDS) % 4] | FID_NOWAIT;
	options.routes = input_byte(input) & ((1u << FID_ROUTES) - 1);
	/* Some way must be left; read and write always are one. */
	if (options.routes)
		options.routes |= FID_ROUTE(FID_READ_WRITE);
	options.pipe_bytes = (uint64_t)input_byte(input) << 12;
	world->limit = options.bytes_max = input_u16(input) * (uint64_t)(choice & 3);

	make_pair(world->source_kind, ends);
	world->source = ends[0];
	world->feed = ends[1];
	make_pair(world->sink_kind, ends);
	world->drain = ends[0];
	world->sink = ends[1];
	/* Half of the descriptors block; FID_NOWAIT makes that no difference. */
	if (choice & 0x80 && world->source_kind != REGULAR)
		REQUIRE(fcntl(world->source, F_SETFL, 0) == 0);
	else if (world->source_kind != REGULAR)
		set_nonblocking(world->source);
	if (choice & 0x40 && world->sink_kind != REGULAR)
		REQUIRE(fcntl(world->sink, F_SETFL, 0) == 0);

	if (world->source_kind == REGULAR)
		feed(world, input_u16(input));
	if (choice & 0x20) {
		REQUIRE(fid_pool_new(&world->pool, &pool) == 0);
		options.pool = world->pool;
	}
	REQUIRE(fid_flow_new(&world->flow, world->source, world->sink, &options, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static uint8_t expected[STREAM_MAX];
	struct input input = {data, bytes};
	struct world world = {.result = 1, .expected = expected};

	start(&world, &input);
	while (input.bytes > 0) {
		uint8_t event = input_byte(&input);
		size_t amount = event & 0x80 ? (size_t)input_u16(&input) : (event >> 3) & 15u;

		switch (event & 7) {
		case 0:
		case 1:
			feed(&world, amount);
			break;
		case 2:
		case 3:
			drain(&world, amount);
			break;
		case 4:
			step(&world);
			break;
		case 5:
			run(&world);
			break;
		case 6:
			/* Rare events, or every schedule would end at once. */
			if (amount == 1)
				close_feed(&world);
			else if (amount == 2)
				close_drain(&world);
			break;
		default:
			if (amount & 1)
				salvage(&world, amount >> 1);
			break;
		}
	}
	finish(&world);

	REQUIRE(fid_flow_free(world.flow) == NULL);
	if (world.pool) {
		struct fid_pool_stats stats;

		REQUIRE(fid_pool_stats(world.pool, &stats) == 0);
		REQUIRE(stats.pipes_lent == 0 && stats.buffers_lent == 0);
		REQUIRE(fid_pool_free(world.pool) == NULL);
	}
	close_feed(&world);
	if (world.drain >= 0 && world.sink_kind != REGULAR)
		close(world.drain);
	close(world.source);
	close(world.sink);
	return 0;
}
