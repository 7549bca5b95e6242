/* SPDX-License-Identifier: MIT */
#include "sparse.h"

#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static bool has_none(const struct job *job, const struct endpoint *end, const char *why)
{
	char shown[512];

	job_misused(job, "%s (%s): %s", print_name(shown, sizeof(shown), end->name),
		    fid_side_name(end->side), why);
	return false;
}

bool sparse_takes_source(const struct job *job, const struct endpoint *source)
{
	return endpoint_is_regular(source) ||
	       has_none(job, source, "--sparse wants a file, since nothing else has holes");
}

bool sparse_takes_sink(const struct job *job, const struct endpoint *sink)
{
	if (!endpoint_is_regular(sink))
		return has_none(job, sink,
				"--sparse wants a file, since nothing else has holes");
	if (sink->kind == ENDPOINT_PATH)
		return true;
	if (fcntl(sink->fd, F_GETFL) & O_APPEND)
		return has_none(job, sink,
				"--sparse and O_APPEND (the shell's >>) do not "
				"go together");
	/* Where a hole is to be what was there would show through. */
	return lseek(sink->fd, 0, SEEK_CUR) >= sink->stat.st_size ||
	       has_none(job, sink, "--sparse wants a file that ends where the bytes go");
}

/*
 * Where the next data begins, from at on, and where it ends: UINT64_MAX is the end of the file,
 * which only reading finds, since a size may be wrong (/proc) or grow. Files whose file system
 * knows nothing of holes are data as a whole: the kernel says so, or EINVAL.
 */
static uint64_t next_data(int fd, uint64_t at, uint64_t *ret_end)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole, size;
	int error = errno;

	*ret_end = UINT64_MAX;
	if (data >= 0) {
		hole = lseek(fd, data, SEEK_HOLE);
		size = lseek(fd, 0, SEEK_END);
		if (hole > data && hole < size)
			*ret_end = (uint64_t)hole;
		return (uint64_t)data;
	}
	/* ENXIO: from there to the end all is one hole, or it is the end. */
	size = error == ENXIO ? lseek(fd, 0, SEEK_END) : 0;
	return size > (off_t)at ? (uint64_t)size : at;
}

/*
 * A clone has the holes as well, in one call. Whether one can be had only doing tells; where it
 * cannot, nothing has moved and nothing is told.
 */
static bool clone_whole(struct transfer *transfer, const struct endpoint *source,
			const struct fid_options *options, int *ret_result)
{
	struct fid_options clone = *options;

	if (options->routes && !(options->routes & FID_ROUTE(FID_REFLINK)))
		return false;
	clone.routes = FID_ROUTE(FID_REFLINK);
	*ret_result = transfer_move(transfer, source, &clone);
	if (*ret_result == 0 || signals_caught() || transfer->part.bytes_in > 0)
		return true;
	transfer->part = (struct fid_receipt){0};
	transfer->parts = 0;
	return false;
}

/* How far a source is. */
struct walk {
	uint64_t at;
	uint64_t end;  /* of what is wanted; UINT64_MAX: of the file */
	int64_t shift; /* from there to the same place of the sink */
};

/* Moves what there is up to end, which is nothing where the walk is there already. */
static int move_data(struct transfer *transfer, const struct endpoint *source,
		     struct fid_options *options, struct walk *walk, uint64_t end)
{
	uint64_t before = transfer->part.bytes_out;
	int result;

	options->source_offset = walk->at;
	options->sink_offset = walk->at + (uint64_t)walk->shift;
	options->bytes_max = end == UINT64_MAX ? 0 : end - walk->at;
	options->flags &= ~FID_LIMIT_ZERO;
	options->flags |= end == walk->at ? FID_LIMIT_ZERO : 0;
	result = transfer_move(transfer, source, options);
	walk->at += transfer->part.bytes_out - before;
	return result;
}

static int move_extents(struct transfer *transfer, const struct endpoint *source,
			struct fid_options *options, struct walk *walk)
{
	uint64_t end;
	int result;

	do {
		uint64_t data = next_data(source->fd, walk->at, &end);

		data = data < walk->end ? data : walk->end;
		end = end < walk->end ? end : walk->end;
		transfer->hole_bytes += data - walk->at;
		walk->at = data;
		result = move_data(transfer, source, options, walk, end);
		/* One that ended early is the last: the file became shorter. */
	} while (result == 0 && walk->at == end && end < walk->end);
	return result;
}

/* A whole file, without a hole that was told of, may have some all the same: NFS, FUSE. */
static void hint_at_holes(const struct transfer *transfer, const struct endpoint *source,
			  const struct walk *walk)
{
	const struct stat *stat = &source->stat;
	char from[256], to[256];

	if (stat->st_blocks * 512 >= stat->st_size || walk->at != (uint64_t)stat->st_size)
		return;
	print_hint("%s has fewer blocks than bytes, but its file system told of no hole; "
		   "'fallocate --dig-holes %s' finds zeros",
		   print_name(from, sizeof(from), source->name),
		   print_name(to, sizeof(to), transfer->sink->name));
}

/*
 * The offsets stand behind what was read and written; a hole at the end has a size to show.
 * Returns 0, or what failed, which the account has as well.
 */
static int end_file(struct transfer *transfer, const struct endpoint *source,
		    const struct walk *walk)
{
	struct fid_receipt *part = &transfer->part;
	int64_t at = (int64_t)walk->at + walk->shift;
	int sink = transfer->sink->fd;
	struct stat stat;

	if (!transfer->job->offset_given)
		lseek(source->fd, (off_t)walk->at, SEEK_SET);
	if (lseek(sink, at, SEEK_SET) >= 0 && fstat(sink, &stat) == 0 &&
	    (stat.st_size >= at || ftruncate(sink, at) == 0))
		return 0;
	if (!part->error) {
		part->error = -errno;
		part->error_side = FID_SIDE_SINK;
	}
	return part->error;
}

int sparse_move(struct transfer *transfer, const struct endpoint *source,
		const struct fid_options *options, uint64_t limit)
{
	bool is_given = transfer->job->offset_given;
	uint64_t start = is_given ? transfer->job->offset
				  : (uint64_t)lseek(source->fd, 0, SEEK_CUR);
	struct walk walk = {
		.at = start,
		.end = limit < INT64_MAX - start ? start + limit : UINT64_MAX,
		.shift = lseek(transfer->sink->fd, 0, SEEK_CUR) - (int64_t)start,
	};
	uint64_t holes = transfer->hole_bytes;
	struct fid_options extent = *options;
	int result, ended;

	if (!is_given && limit == UINT64_MAX && clone_whole(transfer, source, options, &result))
		return result;
	extent.flags |= FID_SOURCE_OFFSET | FID_SINK_OFFSET;
	result = move_extents(transfer, source, &extent, &walk);
	if (result == 0 && holes == transfer->hole_bytes && start == 0)
		hint_at_holes(transfer, source, &walk);
	ended = end_file(transfer, source, &walk);
	return result ? result : ended;
}
