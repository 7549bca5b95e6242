/* SPDX-License-Identifier: MIT */
/*
 * Copies the standard input to the standard output, whatever the two are, and says on the
 * standard error what moved, how, and why so.
 *
 *	copy_with_receipt <file | wc -c
 *	copy_with_receipt <file >another
 */
#include <fid.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	struct fid_receipt receipt;
	char text[1024];
	int64_t moved = fid_copy(STDIN_FILENO, STDOUT_FILENO, NULL, &receipt);

	/* The receipt is exact after a failure as well: it says what moved until then. */
	fid_receipt_text(&receipt, text, sizeof(text));
	fprintf(stderr, "%s\n", text);
	return moved < 0;
}
