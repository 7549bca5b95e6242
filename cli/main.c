/* SPDX-License-Identifier: MIT */
/*
 * fid: moves bytes between files, pipes and sockets by the cheapest way the kernel has.
 */
#include "command.h"
#include "print.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int help_run(int argc, char **argv);

static const char help_help[] = "Usage: fid help [COMMAND]\n"
				"\n"
				"Explains a command, or lists them.\n";

static const struct command commands[] = {
	{"copy", copy_run, "move all bytes of SOURCE to SINK", copy_help},
	{"cat", cat_run, "move all bytes of each SOURCE to standard output", cat_help},
	{"tee", tee_run, "give standard input to standard output and to each SINK", tee_help},
	{"why", why_run, "tell how 'fid copy' would move SOURCE to SINK, and why", why_help},
	{"run", run_run, "run COMMAND where the kernel refuses its splice calls", run_help},
	{"doctor", doctor_run, "find out what this kernel, container and user allow",
	 doctor_help},
	{"bench", bench_run, "measure what moving bytes costs on this machine", bench_help},
	{"help", help_run, "explain a command", help_help},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static bool explain(int fd)
{
	char list[1024] = "";

	for (size_t i = 0; i < COMMANDS; i++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "  %-8s %s\n",
			 commands[i].name, commands[i].line);
	return print_text(fd,
			  "Usage: fid COMMAND [OPTION]... [ARGUMENT]...\n"
			  "\n"
			  "Moves bytes between files, pipes and sockets: by reference where "
			  "the kernel\n"
			  "really does that, and with a receipt that says how every byte "
			  "moved and why.\n"
			  "\n"
			  "Commands\n") &&
	       print_text(fd, list) &&
	       print_text(fd,
			  "\n"
			  "  fid copy --receipt disk.img backup.img\n"
			  "  fid cat access.log | gzip > access.log.gz\n"
			  "  fid copy tcp-listen:9000 backup.tar\n"
			  "\n"
			  "'fid help COMMAND' explains a command, 'fid --version' tells the "
			  "version.\n");
}

static int unknown(const char *name)
{
	const char *names[COMMANDS], *nearest;
	char shown[128];

	for (size_t i = 0; i < COMMANDS; i++)
		names[i] = commands[i].name;
	nearest = nearest_word(name, names, COMMANDS);
	print_error("there is no command '%s'", print_name(shown, sizeof(shown), name));
	if (nearest)
		print_hint("did you mean 'fid %s'?", nearest);
	else
		print_hint("'fid help' lists the commands");
	return STATUS_USAGE;
}

static int help_run(int argc, char **argv)
{
	const struct command *command;

	if (argc > 2) {
		print_error("one command at a time");
		return STATUS_USAGE;
	}
	if (argc < 2)
		return explain(STDOUT_FILENO) ? STATUS_DONE : STATUS_FAILED;
	if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)
		command = find("help");
	else
		command = find(argv[1]);
	if (!command)
		return unknown(argv[1]);
	return print_text(STDOUT_FILENO, command->help) ? STATUS_DONE : STATUS_FAILED;
}

/*
 * A file that is opened as descriptor 2 would get the messages. Where one of the three is
 * closed, its place is taken by a descriptor of the wrong direction, so that its use fails as
 * that of a closed one does. A program that fid runs finds it closed, as it was.
 */
static void take_standard_places(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/dev/null",
				    (fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
}

int main(int argc, char **argv)
{
	const struct command *command;
	char words[64];

	take_standard_places();
	if (argc < 2) {
		explain(STDERR_FILENO);
		return STATUS_USAGE;
	}
	if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)
		return help_run(1, argv);
	if (strcmp(argv[1], "--version") == 0)
		return print_version() ? STATUS_DONE : STATUS_FAILED;
	command = find(argv[1]);
	if (!command)
		return unknown(argv[1]);
	snprintf(words, sizeof(words), "fid %s", command->name);
	print_begin_with(words);
	return command->run(argc - 1, argv + 1);
}
