/* SPDX-License-Identifier: MIT */
/*
 * How long a command takes that has almost nothing to do, from its start to its end.
 */
#include "scenario.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RUNS_WISHED = 3000 };

extern char **environ;

/* Milliseconds, or a negative number when the command could not be run. */
static double time_command(char **argv)
{
	posix_spawn_file_actions_t actions;
	double begin = seconds_now();
	int error, status = 0;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	error = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (error || waitpid(pid, &status, 0) != pid || status != 0)
		return -1;
	return (seconds_now() - begin) * 1e3;
}

void start_run(const struct scenario *scenario)
{
	static double fid_ms[SAMPLES_MAX], cat_ms[SAMPLES_MAX], ratio[SAMPLES_MAX];
	double until_s = seconds_now() + bench.seconds;
	size_t runs = 0;
	static const char text[4 * KIB];
	char path[4096 + 16], fid[4096], verb[] = "cat";
	char *by_fid[] = {fid, verb, path, NULL};
	char *by_cat[] = {verb, path, NULL};
	struct summary fids, cats, ratios;
	int fd;

	snprintf(fid, sizeof(fid), "%s", bench.fid);
	snprintf(path, sizeof(path), "%s/start", bench.dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, sizeof(text)) != sizeof(text))
		fail(path);
	close(fd);
	json_open("start", '{');
	for (; clock_allows(runs, RUNS_WISHED, until_s); runs++) {
		size_t i = runs;

		if (i % 2)
			cat_ms[i] = time_command(by_cat);
		fid_ms[i] = time_command(by_fid);
		if (i % 2 == 0)
			cat_ms[i] = time_command(by_cat);
		if (fid_ms[i] < 0 || cat_ms[i] < 0) {
			json_text("failure", fid_ms[i] < 0 ? "'fid cat' could not be run"
							   : "'cat' could not be run");
			json_close('}');
			unlink(path);
			return;
		}
		ratio[i] = fid_ms[i] / cat_ms[i];
	}
	unlink(path);
	fids = summarise(fid_ms, runs);
	cats = summarise(cat_ms, runs);
	ratios = summarise(ratio, runs);
	json_number("samples", (double)runs);
	json_summary("cat_ms", &cats);
	json_summary("fid_cat_ms", &fids);
	json_summary("ratio", &ratios);
	json_close('}');
}
