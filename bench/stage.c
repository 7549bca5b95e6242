/* SPDX-License-Identifier: MIT */
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_S = 120, NOT_INSTALLED = 127, STDERR = 2, OUT_OF_THE_WAY = 100 };

struct account *account;

void stage_begin(void)
{
	if (!account)
		account = mmap(NULL, sizeof(*account), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (account == MAP_FAILED)
		fail("mmap");
	memset(account, 0, sizeof(*account));
}

/* Where the descriptor of this index is to be. */
static int place(size_t index)
{
	return index < STDERR ? (int)index : (int)index + 1;
}

static void close_others(int from)
{
#ifdef HAVE_CLOSE_RANGE
	close_range((unsigned)from, ~0u, 0);
#else
	for (long most = sysconf(_SC_OPEN_MAX); from < most; from++)
		close(from);
#endif
}

/* In two steps, since what is to be 4 may be 3 now, and the other way round. */
static void take_places(const int *descriptors, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int from = descriptors[i];

		if (from < 0)
			from = open("/dev/null", i == 0 ? O_RDONLY : O_WRONLY);
		if (dup2(from, OUT_OF_THE_WAY + (int)i) < 0)
			fail("dup2");
	}
	for (size_t i = 0; i < count; i++)
		dup2(OUT_OF_THE_WAY + (int)i, place(i));
	close_others(place(count));
}

pid_t stage_child(const int *descriptors, size_t count, void (*run)(const void *about),
		  const void *about)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(PATIENCE_S);
	take_places(descriptors, count);
	run(about);
	_exit(0);
}

void stage_pin(unsigned n)
{
	cpu_set_t mine, one;

	if (sched_getaffinity(0, sizeof(mine), &mine) < 0)
		return;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &mine) || n-- > 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}

void stage_pipe(size_t capacity, int *ret_read_end, int *ret_write_end)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		fail("pipe2");
	if (capacity && fcntl(ends[1], F_SETPIPE_SZ, (int)capacity) < 0)
		fail("F_SETPIPE_SZ");
	*ret_read_end = ends[0];
	*ret_write_end = ends[1];
}

void stage_connection(int *ret_read_end, int *ret_write_end)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*ret_write_end = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || *ret_write_end < 0 ||
	    bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) < 0 ||
	    connect(*ret_write_end, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail("a connection over loopback");
	*ret_read_end = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (*ret_read_end < 0)
		fail("accept4");
	close(listener);
}

void stage_close(int *descriptors, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (descriptors[i] >= 0)
			close(descriptors[i]);
		descriptors[i] = -1;
	}
}

void stage_consume(enum reader reader, size_t bytes, uint64_t limit, unsigned consumer)
{
	static char buffer[256 * KIB];
	uint64_t left = limit ? limit : UINT64_MAX;
	ssize_t got;

	do {
		size_t wish = left < bytes ? (size_t)left : bytes;

		if (reader == READER_SPLICES)
			got = splice(0, NULL, 1, NULL, wish, 0);
		else
			got = read(0, buffer, wish < sizeof(buffer) ? wish : sizeof(buffer));
		account->consumed[consumer] += got > 0 ? (uint64_t)got : 0;
		left -= got > 0 ? (uint64_t)got : 0;
	} while (got > 0 && left > 0);
}

void stage_become(const char *const *argv)
{
	/* execvp() does not change them, and its prototype is older than const. */
	union {
		const char *const *fixed;
		char **loose;
	} arguments = {argv};

	execvp(arguments.loose[0], arguments.loose);
	_exit(NOT_INSTALLED);
}

int stage_wait(pid_t mover, bool is_command, double begin_s, struct sample *ret_sample)
{
	struct rusage usage;
	int status;

	*ret_sample = (struct sample){0};
	if (wait4(mover, &status, 0, &usage) != mover)
		fail("wait4");
	/* The producer and the consumers have ends of the same streams and so end with it. */
	while (wait(NULL) > 0)
		;
	ret_sample->wall_s = seconds_now() - begin_s;
	ret_sample->cpu_s = account->cpu_s;
	if (is_command)
		ret_sample->cpu_s =
			(double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
	return status;
}

void stage_judge(int status, bool is_command, uint64_t volume, struct sample *sample)
{
	char *to = sample->failure;
	size_t capacity = sizeof(sample->failure);

	if (is_command && WIFEXITED(status) && WEXITSTATUS(status) == NOT_INSTALLED)
		snprintf(to, capacity, "not installed");
	else if (account->wrong)
		snprintf(to, capacity, "%llu words were wrong",
			 (unsigned long long)account->wrong);
	else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE && sample->bytes == volume)
		return; /* it would write for ever, and its consumer had all that it wanted */
	else if (WIFSIGNALED(status))
		snprintf(to, capacity, "ended by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		snprintf(to, capacity, "exit status %d", WEXITSTATUS(status));
	else if (account->error)
		snprintf(to, capacity, "%s", fid_error_name(account->error));
	else if (sample->bytes != volume)
		snprintf(to, capacity, "delivered %llu of %llu bytes",
			 (unsigned long long)sample->bytes, (unsigned long long)volume);
}
