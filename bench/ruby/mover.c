/* SPDX-License-Identifier: MIT */
#include "ruby.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

struct told *told;

void mover_begin(void)
{
	stage_begin();
	if (!told)
		told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED)
		fail("mmap");
	memset(told, 0, sizeof(*told));
}

/* "done", seconds of processor time, seconds by the clock; or "failed" and why. */
void mover_note_answer(int socket)
{
	char answer[MESSAGE_MAX];
	char *rest;

	if (!worker_hear(socket, answer, sizeof(answer)))
		snprintf(told->failure, sizeof(told->failure), "the Ruby process died");
	else if (strncmp(answer, "done\t", 5) != 0)
		snprintf(told->failure, sizeof(told->failure), "%.*s",
			 (int)sizeof(told->failure) - 1, strchr(answer, '\t') + 1);
	else {
		account->cpu_s = strtod(answer + 5, &rest);
		told->wall_s = strtod(rest, NULL);
	}
}

void mover_judge(int status, uint64_t volume, struct sample *sample)
{
	stage_judge(status, false, volume, sample);
	if (told->failure[0])
		memcpy(sample->failure, told->failure, sizeof(sample->failure));
	/* It may still be at work on what was given up, or have messages that nobody wants. */
	if (WIFSIGNALED(status) || told->failure[0])
		worker_end();
}
