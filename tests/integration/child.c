/* SPDX-License-Identifier: MIT */
#include "child.h"

#undef test_fail
#undef test_skip

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILD_FAILED = 1, CHILD_HUNG = 3, CHILD_SKIPPED = 77 };

/* What the child leaves for its parent; in memory that both share. */
struct note {
	char doing[256];
	char sentence[1024];
	volatile sig_atomic_t hung;
	_Atomic unsigned beats; /* calls of doing() */
};

static struct note *note;
static bool is_child;
static unsigned watchdog_seconds;
static char scratch_root[2][256];

static void say(const char *file, int line, const char *format, va_list arguments)
{
	size_t used;

	vsnprintf(note->sentence, sizeof(note->sentence), format, arguments);
	used = strlen(note->sentence);
	snprintf(note->sentence + used, sizeof(note->sentence) - used, " (%s:%d)%s%s", file,
		 line, note->doing[0] ? " while doing: " : "", note->doing);
}

void child_fail(const char *file, int line, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (is_child) {
		say(file, line, format, arguments);
		va_end(arguments);
		_exit(CHILD_FAILED);
	} else {
		char sentence[1024];

		vsnprintf(sentence, sizeof(sentence), format, arguments);
		va_end(arguments);
		test_fail(file, line, "%s", sentence);
	}
}

void child_skip(const char *format, ...)
{
	va_list arguments;
	char sentence[512];

	va_start(arguments, format);
	vsnprintf(sentence, sizeof(sentence), format, arguments);
	va_end(arguments);
	if (!is_child)
		test_skip("%s", sentence);
	strcpy(note->sentence, sentence);
	_exit(CHILD_SKIPPED);
}

/* Only calls that are safe in a signal handler. */
static void watchdog_bites(int signal_number)
{
	(void)signal_number;
	note->hung = 1;
	_exit(CHILD_HUNG);
}

void doing(const char *format, ...)
{
	va_list arguments;

	if (!note)
		return;
	va_start(arguments, format);
	vsnprintf(note->doing, sizeof(note->doing), format, arguments);
	va_end(arguments);
	note->beats++;
	if (is_child)
		alarm(watchdog_seconds);
}

static void scratch_make(void)
{
	const char *base = getenv("TMPDIR");

	snprintf(scratch_root[0], sizeof(scratch_root[0]), "%s/fid-test-XXXXXX",
		 base && base[0] ? base : ".");
	if (!mkdtemp(scratch_root[0]))
		test_fail(__FILE__, __LINE__, "mkdtemp %s: %s", scratch_root[0],
			  strerror(errno));
	strcpy(scratch_root[1], "/dev/shm/fid-test-XXXXXX");
	if (!mkdtemp(scratch_root[1]))
		scratch_root[1][0] = 0;
}

static void scratch_remove(void)
{
	for (int i = 0; i < 2; i++) {
		DIR *directory;
		struct dirent *entry;

		if (!scratch_root[i][0])
			continue;
		directory = opendir(scratch_root[i]);
		while (directory && (entry = readdir(directory)))
			if (unlinkat(dirfd(directory), entry->d_name, 0) != 0)
				unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR);
		if (directory)
			closedir(directory);
		rmdir(scratch_root[i]);
		scratch_root[i][0] = 0;
	}
}

static const char *scratch_in(const char *root, const char *name)
{
	static char paths[8][512];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
	return path;
}

const char *scratch(const char *name)
{
	return scratch_in(scratch_root[0], name);
}

const char *scratch_shm(const char *name)
{
	if (!scratch_root[1][0])
		child_skip("/dev/shm is not writable here");
	return scratch_in(scratch_root[1], name);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		child_skip("%s cannot be written: %s", path, strerror(errno));
	close(fd);
}

const char *scratch_small(size_t bytes)
{
	int flags = CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
	const char *directory = scratch("small");
	unsigned user = geteuid(), group = getegid();
	char text[64];

	if (mkdir(directory, 0700) != 0)
		child_fail(__FILE__, __LINE__, "mkdir %s: %s", directory, strerror(errno));
	if (unshare(flags) != 0)
		child_skip("a mount namespace needs root or user namespaces: %s",
			   strerror(errno));
	if (flags & CLONE_NEWUSER) {
		/* Without a map this user may not make files, not even on a mount of its own.
		 */
		put("/proc/self/setgroups", "deny");
		snprintf(text, sizeof(text), "0 %u 1", user);
		put("/proc/self/uid_map", text);
		snprintf(text, sizeof(text), "0 %u 1", group);
		put("/proc/self/gid_map", text);
	}
	snprintf(text, sizeof(text), "size=%zu", bytes);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", directory, "tmpfs", 0, text) != 0)
		child_skip("a small tmpfs cannot be mounted (it needs root or user "
			   "namespaces): %s",
			   strerror(errno));
	return directory;
}

int reap(pid_t process)
{
	int status = -1;

	while (waitpid(process, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/*
 * The alarm of a child whose first thread sleeps in the kernel without listening to signals
 * (the state D of ps) is never heard, and such a child may not even die. So the parent listens
 * for the child's beats, too, and does not wait without bound.
 */
static int reap_child(pid_t process, unsigned seconds)
{
	int handle = (int)syscall(SYS_pidfd_open, process, 0);
	unsigned beats = note->beats, silent = 0;

	while (handle >= 0) {
		struct pollfd death = {.fd = handle, .events = POLLIN};

		if (poll(&death, 1, 1000) > 0)
			break;
		silent = beats == note->beats ? silent + 1 : 0;
		beats = note->beats;
		if (silent == seconds + 2) {
			note->hung = 1;
			kill(process, SIGKILL);
		}
		if (silent == seconds + 7) {
			close(handle);
			return -1;
		}
	}
	if (handle >= 0)
		close(handle);
	return reap(process);
}

const char *try_in_child(unsigned seconds, void (*run)(void *), void *argument)
{
	static char sentence[1536];
	pid_t process;
	int status;

	if (!note) {
		note = mmap(NULL, sizeof(*note), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (note == MAP_FAILED)
			abort();
	}
	memset(note, 0, sizeof(*note));
	scratch_make();
	fflush(stdout);
	process = fork();
	if (process == 0) {
		is_child = true;
		watchdog_seconds = seconds;
		signal(SIGALRM, watchdog_bites);
		alarm(seconds);
		run(argument);
		fflush(stdout);
		_exit(0);
	}
	status = process > 0 ? reap_child(process, seconds) : -1;
	scratch_remove();
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return NULL;
	if (note->hung)
		snprintf(sentence, sizeof(sentence), "it hangs for %u s while doing: %s",
			 seconds, note->doing);
	else if (WIFSIGNALED(status))
		snprintf(sentence, sizeof(sentence), "signal %d while doing: %s",
			 WTERMSIG(status), note->doing);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SKIPPED)
		test_skip("%s", note->sentence);
	else
		snprintf(sentence, sizeof(sentence), "%s", note->sentence);
	return sentence;
}

void in_child(unsigned seconds, void (*run)(void *), void *argument)
{
	const char *failure = try_in_child(seconds, run, argument);

	if (failure)
		test_fail(__FILE__, __LINE__, "%s", failure);
}

char *descriptors_list(void)
{
	size_t capacity = 64 << 10, used = 0;
	char *list = malloc(capacity);
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;

	if (!list || !directory)
		child_fail(__FILE__, __LINE__, "/proc/self/fd cannot be listed");
	list[0] = 0;
	while ((entry = readdir(directory)) && used + 512 < capacity) {
		char target[256];
		ssize_t length;

		if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(directory))
			continue;
		length =
			readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);
		target[length > 0 ? length : 0] = 0;
		used += (size_t)snprintf(list + used, capacity - used, "%s=%s ", entry->d_name,
					 target);
	}
	closedir(directory);
	return list;
}

void descriptors_check(char *before)
{
	char *after = descriptors_list();

	if (strcmp(before, after) != 0)
		child_fail(__FILE__, __LINE__, "descriptors before: %s; after: %s", before,
			   after);
	free(before);
	free(after);
}
