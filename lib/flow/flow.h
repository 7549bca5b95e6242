/* SPDX-License-Identifier: MIT */
/*
 * Flows on any kernel, the real one or a simulated one.
 */
#ifndef FID_FLOW_H
#define FID_FLOW_H

#include "flow/route.h"
#include "kernel/kernel.h"

/* fid_flow_new() and fid_copy() on any kernel. options.pool must be of the same kernel. */
int fid_flow_new_on(struct fid_kernel *kernel, struct fid_flow **ret_flow, int source, int sink,
		    const struct fid_options *options, struct fid_receipt *ret_receipt);
int64_t fid_copy_on(struct fid_kernel *kernel, int source, int sink,
		    const struct fid_options *options, struct fid_receipt *ret_receipt);

/*
 * A flow without a source, for a fan: whoever has made it puts bytes into its pipe or lends it
 * a buffer. It never sleeps, and the one who feeds it holds back SIGPIPE and grants it the end
 * by bytes_max. Of the options flags, sink_offset and pool count.
 */
int fid_flow_new_fed(struct fid_kernel *kernel, struct fid_flow **ret_flow, int sink,
		     const struct fid_options *options, bool source_is_stable);

/*
 * Fills *ret_end, but for offset_given, and *ret_stat with what the kernel tells about fd.
 * Returns 0, or -errno of the call that *ret_call then names.
 */
int fid_end_examine(struct fid_kernel *kernel, int fd, struct fid_end *ret_end,
		    struct fid_stat *ret_stat, enum fid_call *ret_call);

#endif
