/* SPDX-License-Identifier: MIT */
/*
 * Questions that may hang, kill or spend what there is, asked in a child process.
 */
#include "doctor.h"

#include "clock.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the child writes and the parent reads; a pipe would want descriptors. */
struct desk {
	bool done;
	struct answer answer;
};

static int64_t now_ms(void)
{
	return (int64_t)(clock_ns() / MILLISECOND_NS);
}

static _Noreturn void be_asked(struct desk *desk, question_fn question, const void *about,
			       pid_t asker)
{
	const struct rlimit none = {0, 0};

	/* SIGTERM and not SIGKILL: a file is made and unlinked with signals held back. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != asker)
		_exit(1);
	/* A sandbox that kills would leave a core file. */
	prctl(PR_SET_DUMPABLE, 0);
	setrlimit(RLIMIT_CORE, &none);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	question(&desk->answer, about);
	desk->done = true;
	_exit(0);
}

/* Whether the child has ended within that time. SIGCHLD is blocked. */
static bool wait_for(pid_t child, int timeout_ms, int *ret_status)
{
	int64_t end = now_ms() + timeout_ms;
	sigset_t one;

	sigemptyset(&one);
	sigaddset(&one, SIGCHLD);
	for (;;) {
		int64_t left = end - now_ms();
		pid_t got = waitpid(child, ret_status, WNOHANG);

		if (got == child)
			return true;
		if ((got < 0 && errno != EINTR) || left <= 0)
			return false;
		sigtimedwait(&one, NULL,
			     &(struct timespec){.tv_sec = left / 1000,
						.tv_nsec = left % 1000 * 1000000});
	}
}

static void hear(struct desk *desk, pid_t child, struct answer *ret_answer)
{
	int status = 0;

	if (!wait_for(child, ASK_MS, &status)) {
		kill(child, SIGTERM);
		if (!wait_for(child, 200, &status)) {
			kill(child, SIGKILL);
			/* What sleeps in a file system that does not answer may not die yet. */
			wait_for(child, 1000, &status);
		}
		ret_answer->reply = REPLY_LATE;
	} else if (WIFSIGNALED(status)) {
		ret_answer->reply = REPLY_KILLED;
		ret_answer->signal = WTERMSIG(status);
	} else if (desk->done) {
		*ret_answer = desk->answer;
		ret_answer->reply = REPLY_DONE;
	} else {
		ret_answer->error = ECHILD;
	}
}

void ask(struct answer *ret_answer, question_fn question, const void *about)
{
	struct desk *desk = mmap(NULL, sizeof(*desk), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sigset_t one, before;
	pid_t asker = getpid(), child;

	memset(ret_answer, 0, sizeof(*ret_answer));
	ret_answer->reply = REPLY_NONE;
	if (desk == MAP_FAILED) {
		ret_answer->error = errno;
		return;
	}
	/* Whoever started fid may have had it ignore SIGCHLD: nobody could wait then. */
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, SIGCHLD);
	sigprocmask(SIG_BLOCK, &one, &before);
	child = fork();
	if (child == 0) {
		sigprocmask(SIG_SETMASK, &before, NULL);
		be_asked(desk, question, about, asker);
	}
	if (child < 0)
		ret_answer->error = errno;
	else
		hear(desk, child, ret_answer);
	sigprocmask(SIG_SETMASK, &before, NULL);
	munmap(desk, sizeof(*desk));
}
