/* SPDX-License-Identifier: MIT */
/*
 * terminal COLUMNS PROGRAM [ARGUMENT]...
 *
 * Runs a program whose standard error and controlling terminal are a new terminal of that
 * width; standard input and output stay. What appears on the terminal goes to standard error.
 * The status is the program's, 128 + N when signal N ended it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(125);
}

static _Noreturn void run(int terminal, char **arguments)
{
	if (setsid() < 0 || ioctl(terminal, TIOCSCTTY, 0) < 0)
		die("setsid");
	if (dup2(terminal, STDERR_FILENO) < 0)
		die("dup2");
	execvp(arguments[0], arguments);
	die(arguments[0]);
}

int main(int argc, char **argv)
{
	struct winsize size = {.ws_row = 24};
	int master, terminal, status;
	char bytes[4096];
	ssize_t count;
	pid_t child;

	if (argc < 3)
		return 125;
	size.ws_col = (unsigned short)atoi(argv[1]);
	master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
		die("posix_openpt");
	terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (terminal < 0 || ioctl(terminal, TIOCSWINSZ, &size) < 0)
		die("ptsname");
	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0)
		run(terminal, argv + 2);
	close(terminal);
	/* EIO: nobody has the terminal open any more. */
	while ((count = read(master, bytes, sizeof(bytes))) > 0 ||
	       (count < 0 && errno == EINTR))
		if (count > 0 && write(STDERR_FILENO, bytes, (size_t)count) != count)
			die("write");
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
