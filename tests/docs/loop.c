/* SPDX-License-Identifier: MIT */
/*
 * The loop that one writes by hand, which docs/compare.md compares with fid. Standard input
 * goes to standard output; one of them is a pipe.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	ssize_t moved;

	do
		moved = splice(STDIN_FILENO, NULL, STDOUT_FILENO, NULL, 1 << 20, 0);
	while (moved > 0);
	if (moved < 0)
		perror("loop: splice");
	return moved < 0;
}
