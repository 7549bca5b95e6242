/* SPDX-License-Identifier: MIT */
/*
 * Memory into a descriptor. One engine sends what is pending, by vmsplice(2) or by write(2);
 * the modes differ in where pending bytes lie and in what becomes of their pages afterwards.
 *
 * What was sent by reference may be read at any time later, by somebody nobody knows of: the
 * pipe being empty proves nothing, since a second pipe or a socket may have taken over the
 * pages. So pages are never written again. A slab is filled from its beginning to its end, and
 * before its next turn it is dropped with MADV_DONTNEED, after which the same addresses are
 * other pages. Neither MADV_FREE nor dropping shared memory would do: both change what a reader
 * sees (measured on Linux 6.18).
 */
#include "pipe/memory.h"
#include "options.h"
#include "pipe/quiet.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	STEP_ROUNDS = 16,
	CONST_BYTES = 2 << 20,
	RETRY_BYTES = 8 << 20,
	IDLE_WAITS = 8,
	IDLE_SLEEP_MS = 16,
};

struct fid_memory {
	struct fid_kernel *kernel;
	struct fid_pool *pool;
	int sink;
	uint32_t generation; /* of the process that made it */
	uint8_t mode;
	bool interruptible;
	bool nowait;      /* FID_NOWAIT */
	bool nonblocking; /* O_NONBLOCK */
	bool is_pipe;
	bool is_socket;
	bool may_wait;   /* poll(2) knows the sink */
	bool references; /* vmsplice passes on references and is not refused */
	bool running;    /* within run without a time-out: calls may sleep */
	bool ended;
	bool copy_next; /* vmsplice said EFAULT: write(2) has the last word */
	struct fid_quiet quiet;

	/* Where bytes are filled in. Those in [sent, filled) are pending. */
	unsigned char *slab;
	unsigned char *spare; /* the slab before, all sent; its pages are dropped at its turn */
	size_t slab_bytes;
	size_t sent;
	size_t filled;
	size_t reserved;
	uint64_t retry_at; /* bytes copied before huge pages are asked for again */
	bool is_buffer;    /* the slab is a buffer of the pool */
	bool is_huge;      /* the slab is one page */
	bool is_lent;      /* somebody may refer to a part of the slab */

	/* FID_MEMORY_CONST */
	int file;
	bool sealed;
	uint64_t pending_at;
	uint64_t pending_bytes;

	/* FID_MEMORY_LEND */
	struct iovec *segments;
	size_t segments_count;
	size_t segments_next;

	uint64_t started_ns;
	const char *why_copy;
	struct fid_receipt receipt;
};

/* ---- Making ---- */

/* What the sink is, and whether bytes can go into it by reference. */
static int examine(struct fid_memory *memory)
{
	struct fid_kernel *kernel = memory->kernel;
	struct fid_facts facts;
	struct fid_stat stat;
	int status = kernel->status_flags(kernel, memory->sink);
	int got;

	if (status < 0)
		return status;
	if (status & O_PATH || (status & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	got = kernel->stat(kernel, memory->sink, &stat);
	if (got < 0)
		return got;
	memory->nonblocking = status & O_NONBLOCK;
	memory->is_pipe = S_ISFIFO(stat.mode);
	memory->is_socket = S_ISSOCK(stat.mode);
	memory->may_wait = !S_ISREG(stat.mode) && !S_ISBLK(stat.mode);
	if (memory->mode == FID_MEMORY_COPY) {
		memory->why_copy = "a copy, which was asked for";
		return 0;
	}
	if (!memory->is_pipe) {
		memory->why_copy = "a copy, since only a pipe takes memory by reference";
		return 0;
	}
	fid_facts_of(kernel, &facts);
	if (facts.vmsplice_meaning == FID_VMSPLICE_REFUSED)
		memory->why_copy = "a copy, since this kernel or container refuses vmsplice";
	else if (facts.vmsplice_meaning != FID_VMSPLICE_BY_REFERENCE)
		memory->why_copy = "a copy, since vmsplice copies on this kernel";
	else if (memory->mode == FID_MEMORY_FRESH && !facts.vmsplice_fresh)
		memory->why_copy = "a copy, since pages cannot be dropped safely here";
	else
		memory->references = true;
	return 0;
}

/* Room to fill in: a slab of its own, or a warm buffer where bytes are copied anyway. */
static int take_slab(struct fid_memory *memory)
{
	struct fid_kernel *kernel = memory->kernel;

	if (memory->mode == FID_MEMORY_FRESH && memory->references) {
		memory->slab = kernel->slab_map(kernel, FID_SLAB_BYTES);
		memory->slab_bytes = FID_SLAB_BYTES;
		if (memory->slab) {
			memory->is_huge = kernel->slab_is_huge(kernel, memory->slab) == 1;
			return 0;
		}
		memory->references = false;
		memory->why_copy = "a copy, since there is no memory for slabs";
	}
	memory->slab = fid_pool_buffer_take(memory->pool);
	memory->slab_bytes = FID_BUFFER_BYTES;
	memory->is_buffer = true;
	memory->is_huge = false;
	return memory->slab ? 0 : -ENOMEM;
}

static int take_file(struct fid_memory *memory, uint64_t bytes)
{
	struct fid_kernel *kernel = memory->kernel;

	if (bytes > SSIZE_MAX / 2)
		return -EINVAL;
	memory->slab_bytes = bytes ? (size_t)bytes : CONST_BYTES;
	memory->file = kernel->memory_file(kernel, memory->slab_bytes);
	if (memory->file < 0)
		return memory->file;
	memory->slab = kernel->memory_file_map(kernel, memory->file, memory->slab_bytes, true);
	return memory->slab ? 0 : -ENOMEM;
}

/* A constant that is still filled is not in a child, where something else may be by now. */
static bool slab_is_here(const struct fid_memory *memory)
{
	return memory->slab &&
	       (memory->mode != FID_MEMORY_CONST || memory->sealed ||
		memory->generation == memory->kernel->generation(memory->kernel));
}

static void drop_slab(struct fid_memory *memory)
{
	if (memory->is_buffer)
		fid_pool_buffer_give(memory->pool, memory->slab);
	else if (slab_is_here(memory))
		memory->kernel->unmap(memory->kernel, memory->slab, memory->slab_bytes);
	memory->slab = NULL;
	memory->is_buffer = false;
	memory->is_lent = false;
}

int fid_memory_new_on(struct fid_kernel *kernel, struct fid_memory **ret_memory, int sink,
		      const struct fid_memory_options *options)
{
	struct fid_memory_options ours;
	struct fid_memory *memory;
	int got = fid_options_take(&ours, sizeof(ours), options, sizeof(size_t));

	if (got < 0)
		return got;
	if (!ret_memory || ours.flags & ~(FID_NOWAIT | FID_INTERRUPTIBLE) ||
	    ours.mode >= FID_MEMORY_MODES || (ours.bytes_max && ours.mode != FID_MEMORY_CONST))
		return -EINVAL;
	if (!ours.pool && kernel == fid_linux())
		ours.pool = fid_pool_default();
	memory = ours.pool ? calloc(1, sizeof(*memory)) : NULL;
	if (!memory)
		return -ENOMEM;
	memory->kernel = kernel;
	memory->pool = ours.pool;
	memory->sink = sink;
	memory->generation = kernel->generation(kernel);
	memory->mode = (uint8_t)ours.mode;
	memory->nowait = ours.flags & FID_NOWAIT;
	memory->interruptible = ours.flags & FID_INTERRUPTIBLE;
	memory->file = -1;
	memory->retry_at = RETRY_BYTES;
	memory->receipt.source_changed = -1;
	memory->receipt.stable = 1;
	memory->started_ns = kernel->now_ns(kernel);
	if (sink != -1 || ours.mode != FID_MEMORY_CONST)
		got = examine(memory);
	if (got == 0 && ours.mode == FID_MEMORY_CONST)
		got = take_file(memory, ours.bytes_max);
	else if (got == 0 && ours.mode != FID_MEMORY_LEND)
		got = take_slab(memory);
	if (got < 0)
		fid_memory_free(memory);
	else
		*ret_memory = memory;
	return got;
}

int fid_memory_new(struct fid_memory **ret_memory, int sink,
		   const struct fid_memory_options *options)
{
	return fid_memory_new_on(fid_linux(), ret_memory, sink, options);
}

static int end(struct fid_memory *memory, int error, enum fid_side side, enum fid_call call)
{
	struct fid_receipt *receipt = &memory->receipt;

	memory->ended = true;
	receipt->error = error;
	receipt->error_side = side;
	receipt->error_call = call;
	receipt->elapsed_ns = memory->kernel->now_ns(memory->kernel) - memory->started_ns;
	return error;
}

/* ---- Filling ---- */

/*
 * Everything in the slab is sent. If nobody ever got a reference into it, it is used again as
 * it is. Otherwise its pages are dropped: whoever refers to them keeps them, and the addresses
 * get new ones. Locked memory cannot be dropped so (EINVAL) and is unmapped.
 *
 * Two slabs take turns and the older one is dropped, whose reader is probably done: then it is
 * this process that frees the page, and gets the same warm one again. Dropped at once, it is
 * freed by the reader, on another CPU, and costs half as much again (measured on 6.18).
 */
static int renew_slab(struct fid_memory *memory)
{
	struct fid_kernel *kernel = memory->kernel;
	unsigned char *next = memory->spare;

	memory->sent = memory->filled = 0;
	if (!memory->is_lent)
		return 0;
	if (!memory->references) {
		drop_slab(memory);
		return take_slab(memory);
	}
	if (next && kernel->discard(kernel, next, FID_SLAB_BYTES) < 0) {
		kernel->unmap(kernel, next, FID_SLAB_BYTES);
		next = NULL;
	}
	memory->spare = memory->slab;
	memory->slab = next ? next : kernel->slab_map(kernel, FID_SLAB_BYTES);
	memory->is_lent = false;
	if (!memory->slab)
		return take_slab(memory);
	memory->is_huge = kernel->slab_is_huge(kernel, memory->slab) == 1;
	return 0;
}

/* Huge pages may be had again later. To ask costs the slab's pages, so it is asked seldom. */
static void retry_huge(struct fid_memory *memory)
{
	struct fid_kernel *kernel = memory->kernel;
	uint64_t copied = memory->receipt.by_method[FID_READ_WRITE];

	if (memory->is_huge || memory->is_buffer || !memory->references ||
	    memory->mode != FID_MEMORY_FRESH || copied < memory->retry_at)
		return;
	memory->retry_at = copied + RETRY_BYTES;
	if (kernel->discard(kernel, memory->slab, memory->slab_bytes) == 0)
		memory->is_huge = kernel->slab_is_huge(kernel, memory->slab) == 1;
}

ssize_t fid_memory_reserve(struct fid_memory *memory, size_t bytes, void **ret_at)
{
	if (memory->mode == FID_MEMORY_LEND || memory->sealed || !ret_at)
		return -EINVAL;
	if (memory->ended)
		return memory->receipt.error;
	if (bytes > FID_MEMORY_RESERVE_MAX)
		return -EMSGSIZE;
	memory->reserved = 0;
	/* What nobody refers to is filled again while it is warm. */
	if (memory->mode != FID_MEMORY_CONST && memory->sent == memory->filled &&
	    !memory->is_lent) {
		memory->sent = memory->filled = 0;
		retry_huge(memory);
	}
	if (memory->mode == FID_MEMORY_CONST) {
		if (memory->slab_bytes - memory->filled < (bytes ? bytes : 1))
			return -ENOSPC;
	} else if (!memory->slab || memory->slab_bytes - memory->filled < (bytes ? bytes : 1)) {
		int got = 0;

		if (memory->sent < memory->filled)
			return -EAGAIN;
		got = memory->slab ? renew_slab(memory) : take_slab(memory);
		if (got < 0)
			return got;
	}
	memory->reserved = memory->slab_bytes - memory->filled;
	*ret_at = memory->slab + memory->filled;
	return (ssize_t)memory->reserved;
}

static void queued(struct fid_memory *memory, uint64_t bytes)
{
	memory->receipt.bytes_in += bytes;
	memory->receipt.bytes_held += bytes;
}

int fid_memory_commit(struct fid_memory *memory, size_t bytes)
{
	if (bytes > memory->reserved)
		return -EINVAL;
	memory->reserved -= bytes;
	memory->filled += bytes;
	if (memory->mode != FID_MEMORY_CONST)
		queued(memory, bytes);
	return 0;
}

int fid_memory_seal(struct fid_memory *memory)
{
	struct fid_kernel *kernel = memory->kernel;
	int got;

	if (memory->mode != FID_MEMORY_CONST || memory->sealed || !memory->slab)
		return -EINVAL;
	/* The kernel seals no file that somebody could write to through a map. */
	drop_slab(memory);
	memory->reserved = 0;
	got = kernel->memory_file_seal(kernel, memory->file, memory->filled);
	if (got < 0)
		return end(memory, got, FID_SIDE_FID, FID_CALL_MEMORY);
	memory->slab_bytes = memory->filled;
	if (memory->filled > 0) {
		memory->slab =
			kernel->memory_file_map(kernel, memory->file, memory->filled, false);
		if (!memory->slab)
			return end(memory, -ENOMEM, FID_SIDE_FID, FID_CALL_MEMORY);
	}
	memory->sealed = true;
	return 0;
}

int fid_memory_descriptor(const struct fid_memory *memory)
{
	return memory->sealed ? memory->file : -EINVAL;
}

int fid_memory_queue(struct fid_memory *memory, uint64_t offset, uint64_t bytes)
{
	if (!memory->sealed || memory->sink < 0 || offset > memory->filled ||
	    bytes > memory->filled - offset)
		return -EINVAL;
	if (memory->ended)
		return memory->receipt.error;
	if (memory->pending_bytes > 0)
		return -EAGAIN;
	memory->pending_at = offset;
	memory->pending_bytes = bytes;
	queued(memory, bytes);
	return 0;
}

int fid_memory_lend(struct fid_memory *memory, const struct iovec *segments, size_t count)
{
	uint64_t bytes = 0;

	if (memory->mode != FID_MEMORY_LEND || (count > 0 && !segments))
		return -EINVAL;
	if (memory->ended)
		return memory->receipt.error;
	if (memory->segments_next < memory->segments_count)
		return -EAGAIN;
	for (size_t i = 0; i < count; i++) {
		if (segments[i].iov_len > SSIZE_MAX - bytes)
			return -EINVAL;
		bytes += segments[i].iov_len;
	}
	free(memory->segments);
	memory->segments_next = memory->segments_count = 0;
	memory->segments = count ? calloc(count, sizeof(*segments)) : NULL;
	if (count && !memory->segments)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (segments[i].iov_len > 0)
			memory->segments[memory->segments_count++] = segments[i];
	queued(memory, bytes);
	return 0;
}

/* ---- Sending ---- */

/* Points *ret_first at what is pending. Returns how many segments, at most FID_SEGMENTS_MAX.
 */
static size_t pending(struct fid_memory *memory, struct iovec *one, struct iovec **ret_first)
{
	size_t count;

	*ret_first = one;
	if (memory->mode == FID_MEMORY_LEND ? !memory->segments : !memory->slab)
		return 0;
	switch (memory->mode) {
	case FID_MEMORY_LEND:
		*ret_first = memory->segments + memory->segments_next;
		count = memory->segments_count - memory->segments_next;
		return count < FID_SEGMENTS_MAX ? count : FID_SEGMENTS_MAX;
	case FID_MEMORY_CONST:
		one->iov_base = memory->slab + memory->pending_at;
		one->iov_len = memory->pending_bytes;
		break;
	default:
		one->iov_base = memory->slab + memory->sent;
		one->iov_len = memory->filled - memory->sent;
		break;
	}
	if (one->iov_len > FID_TRANSFER_MAX)
		one->iov_len = FID_TRANSFER_MAX;
	return one->iov_len > 0;
}

static void advance_segments(struct fid_memory *memory, size_t bytes)
{
	while (bytes > 0) {
		struct iovec *segment = &memory->segments[memory->segments_next];
		size_t part = bytes < segment->iov_len ? bytes : segment->iov_len;

		segment->iov_base = (char *)segment->iov_base + part;
		segment->iov_len -= part;
		bytes -= part;
		memory->segments_next += segment->iov_len == 0;
	}
}

static void sent(struct fid_memory *memory, enum fid_method method, enum fid_class class_,
		 size_t bytes)
{
	struct fid_receipt *receipt = &memory->receipt;

	receipt->bytes_out += bytes;
	receipt->bytes_held -= bytes;
	receipt->by_class[class_] += bytes;
	receipt->by_method[method] += bytes;
	if (class_ == FID_BY_REFERENCE && memory->mode == FID_MEMORY_LEND)
		receipt->stable = 0;
	switch (memory->mode) {
	case FID_MEMORY_LEND:
		advance_segments(memory, bytes);
		break;
	case FID_MEMORY_CONST:
		memory->pending_at += bytes;
		memory->pending_bytes -= bytes;
		break;
	default:
		memory->is_lent |= class_ == FID_BY_REFERENCE;
		memory->sent += bytes;
		break;
	}
	assert(receipt->bytes_in ==
	       receipt->bytes_out + receipt->bytes_held + receipt->bytes_salvaged);
}

static bool may_sleep(const struct fid_memory *memory)
{
	return !memory->nowait && (memory->running || !memory->nonblocking);
}

static bool sends_by_reference(const struct fid_memory *memory)
{
	if (!memory->references || memory->copy_next)
		return false;
	if (memory->mode != FID_MEMORY_FRESH)
		return true;
	return memory->is_huge && memory->filled - memory->sent >= FID_FRESH_BYTES_MIN;
}

static ssize_t send_reference(struct fid_memory *memory, struct iovec *segments, size_t count)
{
	struct fid_kernel *kernel = memory->kernel;
	size_t bytes = 0;
	ssize_t moved;

	for (size_t i = 0; i < count; i++)
		bytes += segments[i].iov_len;

	fid_quiet_hold(kernel, &memory->quiet);
	/* The call does not look at O_NONBLOCK (measured on 6.18). */
	moved = kernel->vmsplice(kernel, memory->sink, segments, count,
				 may_sleep(memory) ? 0 : SPLICE_F_NONBLOCK);
	fid_quiet_note(&memory->quiet, moved, bytes);
	memory->receipt.calls[FID_VMSPLICE]++;
	return moved;
}

static ssize_t send_copy(struct fid_memory *memory, const struct iovec *segment)
{
	struct fid_kernel *kernel = memory->kernel;
	size_t bytes = segment->iov_len;

	if (!may_sleep(memory) && !memory->nonblocking && memory->may_wait &&
	    !memory->is_socket) {
		struct pollfd wait = {.fd = memory->sink, .events = POLLOUT};
		int ready = kernel->poll(kernel, &wait, 1, 0);

		if (ready <= 0)
			return ready < 0 ? ready : -EAGAIN;
		/* POLLOUT promises no more than that: pipe(7). */
		bytes = bytes < PIPE_BUF ? bytes : PIPE_BUF;
	}
	memory->receipt.calls[FID_READ_WRITE]++;
	if (memory->is_socket)
		return kernel->write(
			kernel, memory->sink, segment->iov_base, bytes, FID_OWN_OFFSET,
			FID_WRITE_SOCKET | (may_sleep(memory) ? 0 : FID_WRITE_NOWAIT));
	if (!memory->is_pipe)
		return kernel->write(kernel, memory->sink, segment->iov_base, bytes,
				     FID_OWN_OFFSET, 0);
	return fid_quiet_write(kernel, &memory->quiet, memory->sink, segment->iov_base, bytes,
			       FID_OWN_OFFSET);
}

/* vmsplice is not to be had any more: what is pending is where it was, and is copied. */
static void demote(struct fid_memory *memory, int error)
{
	struct fid_receipt *receipt = &memory->receipt;

	memory->references = false;
	memory->why_copy = "a copy, since the kernel refused vmsplice";
	if (receipt->demotions < FID_DEMOTIONS_MAX)
		receipt->demotion[receipt->demotions++] = (struct fid_demotion){
			.from = FID_VMSPLICE,
			.to = FID_READ_WRITE,
			.call = FID_CALL_VMSPLICE,
			.side = FID_SIDE_SINK,
			.error = error,
			.at_bytes = receipt->bytes_out,
		};
}

/* One call. Returns FID_DONE with nothing left, FID_MORE, FID_WAIT or -errno. */
static int send_some(struct fid_memory *memory)
{
	struct iovec one, *first;
	size_t count = pending(memory, &one, &first);
	bool by_reference = sends_by_reference(memory);
	ssize_t moved;

	if (count == 0)
		return FID_DONE;
	moved = by_reference ? send_reference(memory, first, count) : send_copy(memory, first);
	if (moved == -EINTR)
		return memory->interruptible ? -EINTR : FID_MORE;
	if (moved == -EAGAIN)
		return FID_WAIT;
	memory->copy_next = by_reference && moved == -EFAULT;
	/* Memory that the kernel cannot refer to (memfd_secret(2), devices) may be copied yet.
	 */
	if (memory->copy_next)
		return FID_MORE;
	if (by_reference && (moved == 0 || fid_not_this_way(moved))) {
		demote(memory, (int)moved);
		return FID_MORE;
	}
	if (moved <= 0)
		return end(memory, moved < 0 ? (int)moved : -EIO,
			   moved == -EFAULT ? FID_SIDE_SOURCE : FID_SIDE_SINK,
			   by_reference ? FID_CALL_VMSPLICE : FID_CALL_WRITE);
	sent(memory, by_reference ? FID_VMSPLICE : FID_READ_WRITE,
	     by_reference ? FID_BY_REFERENCE : FID_USER_COPY, (size_t)moved);
	return memory->receipt.bytes_held ? FID_MORE : FID_DONE;
}

static int advance(struct fid_memory *memory)
{
	int result = FID_MORE;

	if (memory->ended)
		return memory->receipt.error;
	for (int round = 0; round < STEP_ROUNDS && result == FID_MORE; round++)
		result = send_some(memory);
	memory->receipt.waits += result == FID_WAIT;
	return result;
}

int fid_memory_step(struct fid_memory *memory, struct pollfd *wait)
{
	int result = advance(memory);

	fid_quiet_release(memory->kernel, &memory->quiet);
	if (wait)
		*wait = (struct pollfd){
			.fd = result == FID_WAIT ? memory->sink : -1,
			.events = POLLOUT,
		};
	return result;
}

/*
 * Waits for the sink until deadline_ns. Returns FID_MORE or what run returns. idle counts the
 * waits that brought nothing: a socket with something in its error queue is always "ready", so
 * after some of them poll is not believed.
 */
static int wait_for_sink(struct fid_memory *memory, uint64_t deadline_ns, uint32_t *idle)
{
	struct fid_kernel *kernel = memory->kernel;
	struct pollfd wait = {.fd = memory->sink, .events = POLLOUT};
	bool believed = *idle < IDLE_WAITS;
	int left_ms = -1, got;

	if (deadline_ns != UINT64_MAX) {
		uint64_t now = kernel->now_ns(kernel);

		if (now >= deadline_ns)
			return -ETIMEDOUT;
		left_ms = (int)((deadline_ns - now + 999999) / 1000000);
	}
	if (!believed && (left_ms < 0 || left_ms > IDLE_SLEEP_MS))
		left_ms = IDLE_SLEEP_MS;
	got = kernel->poll(kernel, &wait, believed ? 1 : 0, left_ms);
	*idle += 1;
	if (got == -EINTR)
		return memory->interruptible ? -EINTR : FID_MORE;
	return got < 0 ? end(memory, got, FID_SIDE_SINK, FID_CALL_POLL) : FID_MORE;
}

int fid_memory_run(struct fid_memory *memory, int timeout_ms)
{
	struct fid_kernel *kernel = memory->kernel;
	uint64_t deadline_ns = UINT64_MAX;
	uint64_t seen = memory->receipt.bytes_out;
	bool nowait = memory->nowait;
	uint32_t idle = 0;
	int result;

	if (timeout_ms >= 0) {
		deadline_ns = kernel->now_ns(kernel) + (uint64_t)timeout_ms * 1000000;
		memory->nowait = true;
	}
	memory->running = true;
	do {
		result = advance(memory);
		if (memory->receipt.bytes_out != seen)
			idle = 0;
		seen = memory->receipt.bytes_out;
		if (result == FID_WAIT)
			result = wait_for_sink(memory, deadline_ns, &idle);
		else if (result == FID_MORE && deadline_ns != UINT64_MAX &&
			 kernel->now_ns(kernel) >= deadline_ns)
			result = -ETIMEDOUT;
	} while (result == FID_MORE);
	memory->running = false;
	memory->nowait = nowait;
	fid_quiet_release(kernel, &memory->quiet);
	return result;
}

/* ---- Ending ---- */

ssize_t fid_memory_salvage(struct fid_memory *memory, void *buffer, size_t capacity)
{
	struct iovec one, *first;
	size_t taken;

	/* Lent memory is the caller's, and may not even be there. */
	if (memory->mode == FID_MEMORY_LEND)
		return -EINVAL;
	if (pending(memory, &one, &first) == 0)
		return 0;
	taken = one.iov_len < capacity ? one.iov_len : capacity;
	memcpy(buffer, one.iov_base, taken);
	if (memory->mode == FID_MEMORY_CONST) {
		memory->pending_at += taken;
		memory->pending_bytes -= taken;
	} else {
		memory->sent += taken;
	}
	memory->receipt.bytes_held -= taken;
	memory->receipt.bytes_salvaged += taken;
	return (ssize_t)taken;
}

static const char *reason_of(const struct fid_memory *memory)
{
	const struct fid_receipt *receipt = &memory->receipt;

	if (memory->sink < 0)
		return "it is used through its descriptor alone";
	if (!memory->references)
		return memory->why_copy;
	switch (memory->mode) {
	case FID_MEMORY_CONST:
		return "sealed memory passes into the pipe by reference";
	case FID_MEMORY_LEND:
		return "the caller's memory passes into the pipe by reference";
	default:
		break;
	}
	if (receipt->by_method[FID_VMSPLICE] > 0)
		return "new pages pass into the pipe by reference, and are never written again";
	if (!memory->is_huge)
		return "a copy, since new memory does not come in huge pages here";
	return "a copy, since less than 16 KiB were sent at a time";
}

const struct fid_receipt *fid_memory_receipt(struct fid_memory *memory)
{
	struct fid_receipt *receipt = &memory->receipt;
	bool copied = receipt->by_method[FID_READ_WRITE] > receipt->by_method[FID_VMSPLICE];

	if (!memory->ended)
		receipt->elapsed_ns =
			memory->kernel->now_ns(memory->kernel) - memory->started_ns;
	if (receipt->bytes_out == 0)
		copied = !memory->references;
	receipt->route = copied ? FID_READ_WRITE : FID_VMSPLICE;
	receipt->reason = reason_of(memory);
	return receipt;
}

struct fid_memory *fid_memory_free(struct fid_memory *memory)
{
	if (!memory)
		return NULL;
	drop_slab(memory);
	if (memory->spare)
		memory->kernel->unmap(memory->kernel, memory->spare, FID_SLAB_BYTES);
	if (memory->file >= 0)
		memory->kernel->close(memory->kernel, memory->file);
	free(memory->segments);
	free(memory);
	return NULL;
}
