/* SPDX-License-Identifier: MIT */
/*
 * Calls that the kernel is to refuse to this process and its children: a seccomp filter.
 */
#ifndef FID_CLI_DENY_H
#define FID_CLI_DENY_H

#include <stdbool.h>

struct denials {
	int error[8]; /* by call, in the order of the table in deny.c; 0: the call is allowed */
	bool any;
};

/* "splice=EPERM,tee=ENOSYS". Returns false after a message. */
bool denials_parse(struct denials *denials, const char *text);

/*
 * Makes the kernel refuse them, for ever; set-user-ID programs get no privileges any more.
 * Returns false after a message.
 */
bool denials_install(const struct denials *denials);

#endif
