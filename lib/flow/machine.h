/* SPDX-License-Identifier: MIT */
/*
 * What moves a flow on.
 */
#ifndef FID_MACHINE_H
#define FID_MACHINE_H

#include "flow/state.h"

/*
 * A bounded number of rounds. Returns what fid_flow_step() returns; after FID_WAIT flow->wait[]
 * says for what.
 */
int fid_flow_advance(struct fid_flow *flow);

/*
 * Goes on from a read of the source into scratch, which returned taken, and a write of that to
 * the sink without SIGPIPE, which returned given. For a plain flow that has just been made.
 */
void fid_flow_begin(struct fid_flow *flow, ssize_t taken, ssize_t given);

#endif
