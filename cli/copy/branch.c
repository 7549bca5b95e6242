/* SPDX-License-Identifier: MIT */
#include "branch.h"

#include "clock.h"
#include "signals.h"
#include "transfer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SALVAGE_BYTES = 64 << 10,
	WAITS_MAX = 8,
};

struct branch {
	struct digest *digest;
	int read_end; /* of the private pipe: the fan's source */
	int write_end;
	uint64_t delivered; /* by the sources before */
};

/* One source on its way. */
struct passage {
	struct branch *branch;
	struct transfer *transfer;
	struct fid_flow *flow; /* the source into the pipe */
	struct fid_fan *fan;   /* from there */
	int to_digest;         /* numbers of the fan's sinks */
	int to_sink;
	uint32_t require;
	bool flowing;
	int flow_result; /* once it does not flow any more */
	bool unmet;
};

/* ---- Making ---- */

static int make(struct branch **ret_branch, const struct digest_kind *kind, uint64_t pipe_bytes)
{
	struct branch *branch = calloc(1, sizeof(*branch));
	int ends[2], error;

	if (!branch)
		return -ENOMEM;
	error = digest_open_pipe(ends, pipe_bytes);
	if (error == 0) {
		branch->read_end = ends[0];
		branch->write_end = ends[1];
		error = digest_new(&branch->digest, kind);
		if (error == 0) {
			*ret_branch = branch;
			return 0;
		}
		close(ends[0]);
		close(ends[1]);
	}
	free(branch);
	return error;
}

/* The way that would be tried first without a digest. */
static enum fid_method first_way(const struct job *job, const struct endpoint *source,
				 const struct endpoint *sink)
{
	struct fid_options options =
		job_flow_options(job, job->limit_given ? job->limit : UINT64_MAX);
	struct fid_ladder ladder;
	struct fid_end from, to;

	if (fid_end_look(source->fd, &from) < 0 || fid_end_look(sink->fd, &to) < 0)
		return FID_READ_WRITE;
	/* A file that is named is empty by then. */
	if (sink->kind == ENDPOINT_PATH && !to.append)
		to.size = 0;
	if (fid_route(&from, &to, &options, NULL, &ladder, NULL) < 0 || ladder.count == 0)
		return FID_READ_WRITE;
	return (enum fid_method)ladder.rung[0].method;
}

/* What making one failed with; a thread that was not to be had is no call of a flow. */
static enum fid_call call_of(int error)
{
	return error == -ENOMEM   ? FID_CALL_MEMORY
	       : error == -EAGAIN ? FID_CALL_NONE
				  : FID_CALL_PIPE;
}

int branch_open(struct transfer *transfer, const struct endpoint *source,
		struct fid_receipt *ret_receipt)
{
	const struct job *job = transfer->job;
	int error;

	if (transfer->branch)
		return 0;
	transfer->direct = first_way(job, source, transfer->sink);
	error = make(&transfer->branch, job->digest, job->pipe_bytes);
	if (error < 0)
		*ret_receipt = (struct fid_receipt){
			.error = error,
			.error_side = FID_SIDE_FID,
			.error_call = call_of(error),
			.source_changed = -1,
		};
	return error;
}

struct digest_result branch_end(struct branch *branch)
{
	struct digest_result result = digest_end(branch->digest);

	close(branch->write_end);
	close(branch->read_end);
	free(branch);
	return result;
}

/* ---- What is required ---- */

static int refuse(struct fid_receipt *receipt, const char *reason)
{
	*receipt = (struct fid_receipt){
		.error = -EOPNOTSUPP,
		.error_side = FID_SIDE_FID,
		.require_unmet = 1,
		.route = FID_READ_WRITE,
		.source_changed = -1,
		.stable = 1,
		.reason = reason,
	};
	return -EOPNOTSUPP;
}

/* The way from the source into the pipe asks for itself; this is the one from there on. */
static int check_requirement(const struct branch *branch, const struct endpoint *sink,
			     uint32_t require, struct fid_receipt *receipt)
{
	struct fid_options options = {
		.size = sizeof(options),
		.flags = FID_NOWAIT,
		.require = require,
	};
	const char *refused[FID_METHODS_MAX];
	struct fid_ladder ladder;
	struct fid_end from, to;
	struct fid_facts facts;

	if (require == FID_REQUIRE_NOTHING)
		return 0;
	fid_probe(&facts, 0);
	if (facts.tee < 0)
		return refuse(receipt, "--digest needs tee, which is refused here");
	if (fid_end_look(branch->read_end, &from) < 0 || fid_end_look(sink->fd, &to) < 0 ||
	    fid_route(&from, &to, &options, &facts, &ladder, refused) < 0)
		return 0; /* the fan says what is wrong */
	if (ladder.count > 0)
		return 0;
	if (require == FID_REQUIRE_BY_REFERENCE && endpoint_is_regular(sink))
		return refuse(receipt, "with --digest the bytes pass through pipes, out of "
				       "which a file gets copies");
	return refuse(receipt, refused[FID_READ_WRITE]);
}

/* Whether bytes have reached the sink in a way that is not allowed. */
static bool breaks_requirement(const struct passage *passage, const struct fid_receipt *receipt)
{
	if (passage->require == FID_REQUIRE_NOTHING)
		return false;
	return receipt->by_class[FID_USER_COPY] > 0 ||
	       (passage->require == FID_REQUIRE_BY_REFERENCE &&
		receipt->by_class[FID_KERNEL_COPY] > 0);
}

/* ---- The account ---- */

static uint32_t dearest(const struct fid_receipt *receipt)
{
	uint32_t class_ = FID_CLASSES - 1;

	while (class_ > 0 && receipt->by_class[class_] == 0)
		class_--;
	return class_;
}

static uint64_t lesser(uint64_t one, uint64_t other)
{
	return one < other ? one : other;
}

/*
 * A byte has moved as in the dearer of both parts of its way. Each part goes from cheaper to
 * dearer classes and never back, so what is by reference on both is so from end to end.
 */
static void combine_classes(struct fid_receipt *whole, const struct fid_receipt *in)
{
	uint64_t more = in->bytes_out - whole->bytes_out; /* in the pipe, not delivered */
	uint64_t copied = in->by_class[FID_USER_COPY], kernel = in->by_class[FID_KERNEL_COPY];
	uint64_t *by_class = whole->by_class;
	uint64_t references;

	kernel -= lesser(more > copied ? more - copied : 0, kernel);
	copied -= lesser(more, copied);
	references = whole->bytes_out - copied - kernel;
	if (copied > by_class[FID_USER_COPY])
		by_class[FID_USER_COPY] = copied;
	if (references < by_class[FID_BY_REFERENCE])
		by_class[FID_BY_REFERENCE] = references;
	by_class[FID_KERNEL_COPY] =
		whole->bytes_out - by_class[FID_USER_COPY] - by_class[FID_BY_REFERENCE];
}

static void take_error(struct fid_receipt *whole, const struct fid_receipt *from)
{
	if (whole->error || !from->error)
		return;
	whole->error = from->error;
	whole->error_side = from->error_side;
	whole->error_call = from->error_call;
}

/* The account of source to sink, out of those of the two parts of the way. */
static struct fid_receipt account(struct passage *passage)
{
	struct fid_receipt in = *fid_flow_receipt(passage->flow);
	const struct fid_receipt *fan = fid_fan_receipt(passage->fan);
	const struct fid_receipt *out = fid_fan_sink_receipt(passage->fan, passage->to_sink);
	struct fid_receipt whole = *out;

	/* The pipe is fid's own: nobody else's fault. */
	if (in.error_side == FID_SIDE_SINK)
		in.error_side = FID_SIDE_FID;
	whole.bytes_in = in.bytes_in;
	whole.bytes_held = in.bytes_in - out->bytes_out;
	if (dearest(&in) > dearest(out)) {
		memcpy(whole.by_method, in.by_method, sizeof(whole.by_method));
		whole.by_method[in.route] -=
			lesser(in.bytes_out - out->bytes_out, whole.by_method[in.route]);
		whole.route = in.route;
		whole.reason = in.reason;
	}
	combine_classes(&whole, &in);
	for (int i = 0; i < FID_METHODS; i++)
		whole.calls[i] += in.calls[i];
	whole.waits += in.waits;
	/* The source may have ended long before the sink had taken all. */
	if (in.elapsed_ns > whole.elapsed_ns)
		whole.elapsed_ns = in.elapsed_ns;
	whole.demotions = 0;
	receipt_add_demotions(&whole, &in, 0);
	receipt_add_demotions(&whole, fan, 0);
	receipt_add_demotions(&whole, out, 0);
	whole.source_changed = in.source_changed;
	whole.stable |= in.stable;
	whole.require_unmet = in.require_unmet | passage->unmet;
	take_error(&whole, &in);
	take_error(&whole, fan);
	return whole;
}

struct fid_receipt branch_so_far(struct passage *passage)
{
	return account(passage);
}

/* ---- Moving ---- */

static const struct fid_receipt *digest_receipt(struct passage *passage)
{
	return fid_fan_sink_receipt(passage->fan, passage->to_digest);
}

/* A step of the flow. Returns FID_MORE, FID_PAUSED or FID_WAIT, with wait set. */
static int step_flow(struct passage *passage, struct pollfd wait[2])
{
	int result;

	wait[0] = wait[1] = (struct pollfd){.fd = -1};
	if (!passage->flowing)
		return FID_WAIT;
	result = fid_flow_step(passage->flow, wait);
	if (result == -EINTR)
		return FID_MORE;
	if (result > FID_DONE)
		return result;
	passage->flowing = false;
	passage->flow_result = result;
	return FID_WAIT;
}

/*
 * The flow is paused. The sink has to have all that was granted before there is more: else the
 * pipe would fill while the sink stands still, and leave all at once afterwards. Returns
 * FID_MORE, or FID_WAIT, for *ret_timeout_ns where it is the pace that is waited for.
 */
static int keep_pace(struct passage *passage, uint64_t *ret_timeout_ns)
{
	const struct fid_receipt *out = fid_fan_sink_receipt(passage->fan, passage->to_sink);

	if (out->bytes_out < fid_flow_receipt(passage->flow)->bytes_out)
		return FID_WAIT;
	*ret_timeout_ns = transfer_grant(passage->transfer, passage->flow);
	return *ret_timeout_ns == 0 ? FID_MORE : FID_WAIT;
}

/* Whether it is over; *ret_result is how. stepped: what the fan's step returned. */
static bool is_over(struct passage *passage, int stepped, int *ret_result)
{
	const struct fid_receipt *in = fid_flow_receipt(passage->flow);
	const struct fid_receipt *out = fid_fan_sink_receipt(passage->fan, passage->to_sink);
	const struct fid_receipt *digest = digest_receipt(passage);

	digest_allow(passage->branch->digest, passage->branch->delivered + out->bytes_out);
	passage->unmet = breaks_requirement(passage, out);
	*ret_result = out->error ? out->error : passage->unmet ? -EOPNOTSUPP : 0;
	if (*ret_result == 0 && stepped < 0 && stepped != -EINTR)
		*ret_result = stepped;
	if (*ret_result < 0)
		return true;
	*ret_result = passage->flow_result;
	return !passage->flowing && out->bytes_out == in->bytes_out &&
	       (digest->error || digest->bytes_out == in->bytes_out);
}

/* What has moved anywhere. */
static uint64_t moved(struct passage *passage)
{
	const struct fid_receipt *in = fid_flow_receipt(passage->flow);

	return in->bytes_in + in->bytes_out + digest_receipt(passage)->bytes_out +
	       fid_fan_sink_receipt(passage->fan, passage->to_sink)->bytes_out;
}

/* Sleeps until one of both has something to do. */
static int wait_for_both(struct passage *passage, struct pollfd flow_wait[2],
			 const struct fid_fan_wait *fan_wait, uint64_t timeout_ns)
{
	struct pollfd all[WAITS_MAX];
	size_t count = 2;

	memcpy(all, flow_wait, 2 * sizeof(*all));
	for (size_t i = 0; i < fan_wait->count && count < WAITS_MAX; i++)
		all[count++] = fan_wait->fds[i];
	if (fan_wait->timeout_ms >= 0 &&
	    (uint64_t)fan_wait->timeout_ms * MILLISECOND_NS < timeout_ns)
		timeout_ns = (uint64_t)fan_wait->timeout_ms * MILLISECOND_NS;
	return waits_poll(&passage->transfer->waits, moved(passage), all, count, timeout_ns);
}

/* As the loop of a single flow. Returns 0, -EINTR for a signal, or what ended it. */
static int run(struct passage *passage)
{
	while (!signals_caught()) {
		struct fid_fan_wait fan_wait;
		struct pollfd wait[2];
		uint64_t timeout_ns = UINT64_MAX;
		int flow, fan, result;
		bool waits;

		signals_look();
		flow = step_flow(passage, wait);
		fan = fid_fan_step(passage->fan, &fan_wait);
		if (is_over(passage, fan, &result))
			return result;
		if (flow == FID_PAUSED)
			flow = keep_pace(passage, &timeout_ns);
		waits = flow == FID_WAIT && fan == FID_WAIT;
		if (transfer_stands_still(passage->transfer, moved(passage),
					  waits && timeout_ns == UINT64_MAX))
			return -ETIMEDOUT;
		result = waits ? wait_for_both(passage, wait, &fan_wait, timeout_ns) : FID_MORE;
		if (result < 0 && result != -EINTR)
			return result;
		transfer_tick(passage->transfer,
			      fid_fan_sink_receipt(passage->fan, passage->to_sink)->bytes_out);
	}
	return -EINTR;
}

/* ---- The end ---- */

/* Writes into the digest's pipe, which its thread empties meanwhile. */
static bool feed_digest(const struct branch *branch, const unsigned char *bytes, size_t count)
{
	struct pollfd room = {.fd = digest_pipe(branch->digest), .events = POLLOUT};

	while (count > 0) {
		ssize_t wrote = write(room.fd, bytes, count);

		if (wrote < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		if (wrote < 0)
			poll(&room, 1, -1);
		bytes += wrote > 0 ? wrote : 0;
		count -= wrote > 0 ? (size_t)wrote : 0;
	}
	return true;
}

/*
 * It ended before its time, and the sink was ahead of the digest: what it has and the digest
 * has not waits in the fan and in the pipe. Without this there would be no digest of just what
 * was delivered.
 */
static void catch_up(struct passage *passage)
{
	const struct branch *branch = passage->branch;
	uint64_t all = fid_fan_sink_receipt(passage->fan, passage->to_sink)->bytes_out;
	uint64_t fed = digest_receipt(passage)->bytes_out;
	unsigned char bytes[SALVAGE_BYTES];
	ssize_t got = 1;

	while (got > 0 && fed < all) {
		got = fid_fan_salvage(passage->fan, passage->to_digest, bytes,
				      lesser(all - fed, sizeof(bytes)));
		if (got > 0 && !feed_digest(branch, bytes, (size_t)got))
			return;
		fed += got > 0 ? (uint64_t)got : 0;
	}
	/* What the fan has given to both ends there, or else nobody knows what comes next. */
	if (fid_fan_receipt(passage->fan)->bytes_out != fed)
		return;
	for (got = 1; got > 0 && fed < all; fed += (uint64_t)got) {
		size_t want = lesser(all - fed, sizeof(bytes));

		got = fid_fan_salvage(passage->fan, -1, bytes, want);
		if (got <= 0)
			got = read(branch->read_end, bytes, want);
		if (got <= 0 || !feed_digest(branch, bytes, (size_t)got))
			return;
	}
}

static int new_fan(struct passage *passage, const struct endpoint *sink,
		   const struct fid_options *options)
{
	struct fid_fan_options fan_options = {
		.size = sizeof(fan_options),
		.flags = FID_INTERRUPTIBLE | FID_GROW_PIPES,
		.routes = options->routes,
		.pipe_bytes = options->pipe_bytes,
	};
	int error = fid_fan_new(&passage->fan, passage->branch->read_end, &fan_options);

	if (error < 0)
		return error;
	/* In this order the sink is rarely ahead. */
	passage->to_digest =
		fid_fan_add(passage->fan, digest_pipe(passage->branch->digest), NULL);
	if (passage->to_digest < 0)
		return passage->to_digest;
	passage->to_sink = fid_fan_add(passage->fan, sink->fd, NULL);
	return passage->to_sink < 0 ? passage->to_sink : 0;
}

static int begin(struct passage *passage, const struct endpoint *source,
		 const struct fid_options *options, struct fid_receipt *ret_receipt)
{
	const struct endpoint *sink = passage->transfer->sink;
	struct fid_options in = *options;
	int error = check_requirement(passage->branch, sink, options->require, ret_receipt);

	if (error < 0)
		return error;
	/* It must not sleep while the fan has something to do. */
	in.flags |= FID_NOWAIT;
	error = fid_flow_new(&passage->flow, source->fd, passage->branch->write_end, &in,
			     ret_receipt);
	if (error < 0)
		return error;
	error = new_fan(passage, sink, options);
	if (error < 0) {
		ret_receipt->error = error;
		ret_receipt->error_side = error == -ENOMEM || !passage->fan ||
							  passage->to_digest < 0
						  ? FID_SIDE_FID
						  : FID_SIDE_SINK;
	}
	return error;
}

static void end(struct passage *passage)
{
	fid_flow_free(passage->flow);
	fid_fan_free(passage->fan);
}

int branch_try(struct branch *branch, struct transfer *transfer, const struct endpoint *source,
	       const struct fid_options *options, struct fid_receipt *ret_receipt)
{
	struct passage passage = {.branch = branch, .transfer = transfer};
	int error = begin(&passage, source, options, ret_receipt);

	end(&passage);
	return error;
}

int branch_run(struct branch *branch, struct transfer *transfer, const struct endpoint *source,
	       const struct fid_options *options, struct fid_receipt *ret_receipt)
{
	struct passage passage = {
		.branch = branch,
		.transfer = transfer,
		.require = options->require,
		.flowing = true,
	};
	int result = begin(&passage, source, options, ret_receipt);

	if (result == 0) {
		transfer->passage = &passage;
		result = run(&passage);
		transfer->passage = NULL;
		catch_up(&passage);
		*ret_receipt = account(&passage);
		branch->delivered += ret_receipt->bytes_out;
	}
	end(&passage);
	return result;
}
