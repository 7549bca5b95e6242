/* SPDX-License-Identifier: MIT */
/*
 * What is told of a transfer when it is over, and meanwhile: its receipt and its digest.
 */
#ifndef FID_CLI_TELL_H
#define FID_CLI_TELL_H

#include "transfer.h"

/* What SIGUSR1 asks for. context: the transfer. */
void tell_so_far(void *context);

/* The receipt, where one is asked for. Returns false after a message. */
bool tell_receipt(const struct transfer *transfer, const struct digest_result *digest);

/*
 * The line for a checksum file; it has to be made while the sink has its name. NULL: none. Free
 * it.
 */
char *tell_line_of(const struct transfer *transfer, const struct digest_result *digest);

/* What became of the digest, of which that is the line. Returns the exit status. */
int tell_digest(const struct transfer *transfer, const struct digest_result *digest,
		const char *line, int status);

#endif
