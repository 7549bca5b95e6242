/* SPDX-License-Identifier: MIT */
/* A program into which nothing can be preloaded: it is linked statically. */
#include <stdio.h>

int main(void)
{
	return puts("static") < 0;
}
