/* SPDX-License-Identifier: MIT */
/*
 * A filter that refuses some of the three calls, for the rest of a child's life.
 */
#ifndef FID_SANDBOX_H
#define FID_SANDBOX_H

#include "child.h"

enum { REFUSE_SPLICE = 1, REFUSE_TEE = 2, REFUSE_VMSPLICE = 4, REFUSE_ALL = 7 };

/* The values with which sandboxes and kernels refuse a call as such. */
extern const int sandbox_errors[3];

void sandbox_enter(unsigned refused, int error);

/* "splice and tee are EPERM" */
const char *sandbox_name(unsigned refused, int error);

#endif
