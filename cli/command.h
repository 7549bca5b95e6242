/* SPDX-License-Identifier: MIT */
/*
 * The commands. To add one: a folder with its run and help, and a line in the table of main.c.
 */
#ifndef FID_CLI_COMMAND_H
#define FID_CLI_COMMAND_H

/* The exit statuses of every command; fid(1) promises them. */
enum status {
	STATUS_DONE = 0,
	STATUS_FAILED = 1, /* a transfer failed, or a name could not be opened */
	STATUS_USAGE = 2,  /* the command line is wrong; nothing was touched */
	STATUS_UNMET = 3,  /* --require cannot be met */
};

struct command {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the name; returns an exit status */
	const char *line;
	const char *help;
};

int copy_run(int argc, char **argv);
int cat_run(int argc, char **argv);
int tee_run(int argc, char **argv);
int why_run(int argc, char **argv);
int run_run(int argc, char **argv);
int doctor_run(int argc, char **argv);
int bench_run(int argc, char **argv);

extern const char copy_help[];
extern const char cat_help[];
extern const char tee_help[];
extern const char why_help[];
extern const char run_help[];
extern const char doctor_help[];
extern const char bench_help[];

#endif
