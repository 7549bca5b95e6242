/* SPDX-License-Identifier: MIT */
/*
 * --digest: what goes to the sink goes to a digest as well. A flow fills a private pipe from
 * the source, and a fan gives each of its pages to the sink and to the digest's pipe.
 */
#ifndef FID_CLI_BRANCH_H
#define FID_CLI_BRANCH_H

#include "digest.h"
#include "endpoint.h"

struct branch;
struct transfer;

/*
 * Opens the transfer's branch, with the first source; one is for all sources. Returns 0 or a
 * negative errno value, and why is in the receipt.
 */
int branch_open(struct transfer *transfer, const struct endpoint *source,
		struct fid_receipt *ret_receipt);

/*
 * Whether source could be moved with these options: nothing is. Returns 0 or a negative errno
 * value, and why is in the receipt.
 */
int branch_try(struct branch *branch, struct transfer *transfer, const struct endpoint *source,
	       const struct fid_options *options, struct fid_receipt *ret_receipt);

/*
 * Moves one source; the receipt is that of a flow from it to the sink. Returns as a flow does,
 * and -EINTR for a signal that ends the program.
 */
int branch_run(struct branch *branch, struct transfer *transfer, const struct endpoint *source,
	       const struct fid_options *options, struct fid_receipt *ret_receipt);

/* The account so far of what branch_run() is at. */
struct passage;
struct fid_receipt branch_so_far(struct passage *passage);

/* Ends it. The digest is that of all bytes that were delivered. */
struct digest_result branch_end(struct branch *branch);

#endif
