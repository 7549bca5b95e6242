/* SPDX-License-Identifier: MIT */
/*
 * Fans on any kernel.
 */
#ifndef FID_FAN_H
#define FID_FAN_H

#include "kernel/kernel.h"

/* fid_fan_new() on any kernel. options.pool must be of the same kernel. */
int fid_fan_new_on(struct fid_kernel *kernel, struct fid_fan **ret_fan, int source,
		   const struct fid_fan_options *options);

#endif
