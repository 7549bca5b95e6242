/* SPDX-License-Identifier: MIT */
#include "measure.h"

#include "command.h"
#include "print.h"
#include "signals.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where tmpfs is on every Linux that has it. */
static const char MEMORY[] = "/dev/shm";

/* Makes a folder of our own in dir. Returns false after a message. */
static bool make_folder(char folder[PATH_MAX], const char *dir)
{
	char shown[512];
	int error;

	if (snprintf(folder, PATH_MAX, "%s/fid-bench-%d.XXXXXX", dir, (int)getpid()) <
		    PATH_MAX - 64 &&
	    mkdtemp(folder))
		return true;
	error = errno;
	print_error("%s: no files can be made there: %s", print_name(shown, sizeof(shown), dir),
		    strerror(error));
	print_hint("--dir names another folder");
	return false;
}

static void remove_folder(const char *folder)
{
	DIR *dir = *folder ? opendir(folder) : NULL;

	/* It is flat: nobody makes folders in it. */
	for (struct dirent *entry; dir && (entry = readdir(dir));)
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	if (*folder)
		rmdir(folder);
}

static bool has_room(const char *dir, uint64_t bytes)
{
	char shown[512], needed[PRINT_SIZE], free[PRINT_SIZE];
	struct statvfs room;
	uint64_t there;

	if (bytes == 0 || statvfs(dir, &room) < 0)
		return true;
	there = (uint64_t)room.f_bavail * room.f_frsize;
	/* A file system without blocks has no room to speak of, or no end of it. */
	if (there >= bytes || room.f_blocks == 0)
		return true;
	print_error("%s: %s are needed there for files, and %s are free",
		    print_name(shown, sizeof(shown), dir), print_size(needed, bytes),
		    print_size(free, there));
	print_hint("--dir names another folder, and fewer --seconds take smaller files");
	return false;
}

static _Noreturn void measure_here(const struct measure *measure, pid_t parent,
				   const char *folder, const char *memory)
{
	int status;

	signals_release();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(STATUS_FAILED);
	status = measure->run(measure->context, folder, memory);
	exit(fflush(stdout) == 0 ? status : STATUS_FAILED);
}

/* Waits for the process and, when it is over, for those that it has left. */
static int await(pid_t child)
{
	int status = 0, other;
	pid_t pid;

	do {
		if (signals_caught())
			kill(child, SIGKILL);
		pid = waitpid(child, &status, 0);
	} while (pid < 0 && errno == EINTR);
	/* They die with it, since they asked the kernel for that. */
	while (waitpid(-1, &other, 0) > 0 || errno == EINTR)
		;
	return status;
}

static int measure_in(const struct measure *measure, const char *folder, const char *memory)
{
	pid_t parent = getpid(), child;
	int status;

	/* What the process leaves behind when it is killed is ours to wait for. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signals_catch(false);
	child = fork();
	if (child == 0)
		measure_here(measure, parent, folder, memory);
	if (child < 0) {
		print_error("fork: %s", strerror(errno));
		return STATUS_FAILED << 8;
	}
	status = await(child);
	progress_clear(measure->progress);
	return status;
}

int measure_run(const struct measure *measure)
{
	char folder[PATH_MAX] = "", memory[PATH_MAX] = "";
	int status;

	if (!has_room(measure->dir, measure->bytes) || !has_room(MEMORY, measure->memory_bytes))
		return STATUS_FAILED;
	if (!make_folder(folder, measure->dir))
		return STATUS_FAILED;
	/* Where there is no tmpfs its place is taken by what there is, and the facts say so. */
	if (access(MEMORY, W_OK) < 0 || !make_folder(memory, MEMORY))
		memory[0] = '\0';
	status = measure_in(measure, folder, *memory ? memory : folder);
	remove_folder(folder);
	remove_folder(memory);
	signals_release();
	if (signals_caught())
		signals_die(signals_caught());
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	if (WTERMSIG(status) == SIGPIPE)
		signals_die(SIGPIPE);
	print_error("what measures was ended by signal %d", WTERMSIG(status));
	return STATUS_FAILED;
}
