/* SPDX-License-Identifier: MIT */
#include "gnuplot.h"

#include "print.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

bool gnuplot_is_here(void)
{
	const char *path = getenv("PATH");
	char name[PATH_MAX];

	while (path && *path) {
		size_t length = strcspn(path, ":");

		snprintf(name, sizeof(name), "%.*s/gnuplot", (int)length, path);
		if (length > 0 && length < sizeof(name) - 16 && access(name, X_OK) == 0)
			return true;
		path += length + (path[length] == ':');
	}
	print_error("--plot draws with gnuplot, which is not in PATH");
	print_hint("install gnuplot (Debian's package is gnuplot-nox), or draw a result that "
		   "--json wrote elsewhere, with --from");
	return false;
}

/* What it said, which is of no interest where it could draw: fonts, locales. */
static void print_complaints(FILE *complaints)
{
	char line[256], shown[256];

	rewind(complaints);
	while (fgets(line, sizeof(line), complaints)) {
		line[strcspn(line, "\n")] = '\0';
		if (line[strspn(line, " ^")])
			print_error("gnuplot: %s", print_name(shown, sizeof(shown), line));
	}
}

/* -d: the settings of whoever runs this do not show. */
static int run_gnuplot(int program, int picture, int complaints)
{
	char name[] = "gnuplot", defaults[] = "-d", input[] = "/dev/stdin";
	char *argv[] = {name, defaults, input, NULL};
	posix_spawn_file_actions_t actions;
	int error, status = 0;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, program, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, picture, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, complaints, STDERR_FILENO);
	error = posix_spawnp(&pid, name, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (error) {
		print_error("gnuplot: %s", strerror(error));
		return -1;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0)
		print_error("gnuplot could not draw it, with status %d",
			    WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return status;
}

/*
 * Makes the drawing the file of that name, all at once. The name beside it is there for no
 * longer than that takes, and no signal ends this process meanwhile. Returns an errno value, or
 * 0.
 */
static int put_in_place(int drawing, const char *path)
{
	mode_t mask = umask(0);
	char temporary[PATH_MAX];
	int fd = -1, error = ENAMETOOLONG;
	sigset_t all, before;

	umask(mask);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) < PATH_MAX) {
		fd = mkostemp(temporary, O_CLOEXEC);
		error = errno;
	}
	if (fd >= 0) {
		const struct fid_options whole = {.size = sizeof(whole),
						  .flags = FID_SOURCE_OFFSET};
		int64_t moved = fid_copy(drawing, fd, &whole, NULL);

		error = moved < 0 ? (int)-moved : 0;
		if (!error && (fchmod(fd, 0666 & ~mask) < 0 || rename(temporary, path) < 0))
			error = errno;
		close(fd);
		if (error)
			unlink(temporary);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return error;
}

bool gnuplot_draw(const char *path, void (*write)(FILE *to, const void *about),
		  const void *about)
{
	FILE *program = tmpfile(), *complaints = tmpfile(), *drawing = tmpfile();
	char shown[512];
	bool good = false;
	int error = errno;

	if (!program || !complaints || !drawing) {
		print_error("a temporary file: %s", strerror(error));
		goto out;
	}
	write(program, about);
	if (fflush(program) != 0 || lseek(fileno(program), 0, SEEK_SET) < 0) {
		print_error("a temporary file: %s", strerror(errno));
		goto out;
	}
	if (run_gnuplot(fileno(program), fileno(drawing), fileno(complaints)) != 0) {
		print_complaints(complaints);
		goto out;
	}
	error = put_in_place(fileno(drawing), path);
	good = error == 0;
	if (!good)
		print_error("%s: no picture can be made there: %s",
			    print_name(shown, sizeof(shown), path), strerror(error));
out:
	if (program)
		fclose(program);
	if (complaints)
		fclose(complaints);
	if (drawing)
		fclose(drawing);
	return good;
}
