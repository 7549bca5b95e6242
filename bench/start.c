/* SPDX-License-Identifier: MIT */
/*
 * How long a command takes that has almost nothing to do, from its start to its end.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

void start_run(void)
{
	static double fid_ms[SAMPLES_MAX], cat_ms[SAMPLES_MAX], ratio[SAMPLES_MAX];
	size_t runs = bench.quick ? 300 : 3000;
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
	table_note("\nstart: milliseconds for a file of 4 KiB to /dev/null, whole process");
	for (size_t i = 0; i < runs; i++) {
		if (i % 2)
			cat_ms[i] = time_command(by_cat);
		fid_ms[i] = time_command(by_fid);
		if (i % 2 == 0)
			cat_ms[i] = time_command(by_cat);
		if (fid_ms[i] < 0 || cat_ms[i] < 0) {
			table_note("  %s cat or cat could not be run", fid);
			unlink(path);
			return;
		}
		ratio[i] = fid_ms[i] / cat_ms[i];
	}
	unlink(path);
	fids = summarise(fid_ms, runs);
	cats = summarise(cat_ms, runs);
	ratios = summarise(ratio, runs);
	table_note("  cat %.3f  fid cat %.3f  ratio %.2f  %.2f-%.2f  %s", cats.median,
		   fids.median, ratios.median, ratios.low, ratios.high, verdict(&ratios));
	json_open("start", '{');
	json_summary("cat_ms", &cats);
	json_summary("fid_cat_ms", &fids);
	json_summary("ratio", &ratios);
	json_close('}');
}
