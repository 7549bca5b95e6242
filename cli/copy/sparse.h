/* SPDX-License-Identifier: MIT */
/*
 * --sparse: what the file system says is a hole of the source becomes one of the sink.
 */
#ifndef FID_CLI_SPARSE_H
#define FID_CLI_SPARSE_H

#include "transfer.h"

/* Whether the ends can have holes, as stat tells of them. Return false after a message. */
bool sparse_takes_source(const struct job *job, const struct endpoint *source);
bool sparse_takes_sink(const struct job *job, const struct endpoint *sink);

/*
 * For transfer_run(): moves the source's data, each extent by a flow of its own, to the same
 * places of the sink, counted from the sink's offset, which stands behind it all afterwards.
 * limit counts holes as well. Returns what ended it, as transfer.part has it.
 */
int sparse_move(struct transfer *transfer, const struct endpoint *source,
		const struct fid_options *options, uint64_t limit);

#endif
