/* SPDX-License-Identifier: MIT */
/*
 * What has to be known of a machine to make anything of its numbers.
 */
#include "stage.h"

#include <fid.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * The value of the first line of a file that begins with key, or the first line where key is
 * empty; without what stands before it. Empty when there is none.
 */
static const char *value_in(const char *path, const char *key)
{
	static char line[512];
	FILE *file = fopen(path, "re");
	const char *value = "";

	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, key, strlen(key)) != 0)
			continue;
		value = line + strlen(key);
		value += strspn(value, " \t:");
		line[strcspn(line, "\n")] = '\0';
		break;
	}
	if (file)
		fclose(file);
	return value;
}

static void add_value(const char *name, const char *path, const char *key)
{
	const char *value = value_in(path, key);

	json_text(name, *value ? value : "unknown");
}

static void add_machine(void)
{
	const char *model = value_in("/proc/cpuinfo", "model name");
	struct utsname system;
	char text[1024];
	cpu_set_t mine;
	time_t now = time(NULL);
	struct tm utc;

	gmtime_r(&now, &utc);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%MZ", &utc);
	json_text("date", text);
	uname(&system);
	snprintf(text, sizeof(text), "%s %s %s", system.sysname, system.release,
		 system.machine);
	json_text("kernel", text);
	snprintf(text, sizeof(text), "%d x %s",
		 sched_getaffinity(0, sizeof(mine), &mine) == 0 ? CPU_COUNT(&mine) : 1,
		 *model ? model : "an unknown processor");
	json_text("cpu", text);
	json_text("virtual machine", strstr(value_in("/proc/cpuinfo", "flags"), " hypervisor")
					     ? "yes"
					     : "not known");
	add_value("governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "");
	add_value("memory", "/proc/meminfo", "MemTotal");
	snprintf(text, sizeof(text), "%s", value_in("/proc/loadavg", ""));
	/* Three numbers, and then what is of no interest. */
	for (char *at = text, *space; (space = strchr(at, ' ')); at = space + 1)
		if (strchr(space, '/') && !strchr(space, '.'))
			*space = '\0';
	json_text("load before", text);
}

/* The type of the file system whose mount point is the longest beginning of the path. */
static void add_file_system(const char *name, const char *dir)
{
	char *path = realpath(dir, NULL), point[512], type[64], best[64] = "unknown";
	FILE *mounts = fopen("/proc/self/mounts", "re");
	size_t longest = 0;

	while (path && mounts && fscanf(mounts, "%*s %511s %63s %*[^\n]", point, type) == 2) {
		size_t length = strlen(point);

		if (length < longest || strncmp(path, point, length) != 0)
			continue;
		if (length > 1 && path[length] && path[length] != '/')
			continue;
		longest = length;
		memcpy(best, type, sizeof(best));
	}
	if (mounts)
		fclose(mounts);
	free(path);
	json_text(name, best);
}

static void say_version(const void *about)
{
	const char *const *argv = about;

	/* A command that waits for something instead is given up. */
	alarm(5);
	dup2(STDOUT_FILENO, STDERR_FILENO);
	stage_become(argv);
}

/* The line of that number that a command says of its version. */
static void add_version(const char *name, const char *const *argv, unsigned number)
{
	char line[256] = "";
	const char *end;
	int ends[2];
	FILE *said;

	stage_pipe(0, &ends[0], &ends[1]);
	stage_child((int[]){-1, ends[1]}, 2, say_version, argv);
	close(ends[1]);
	said = fdopen(ends[0], "r");
	for (unsigned i = 0; said && i < number; i++)
		if (!fgets(line, sizeof(line), said))
			line[0] = '\0';
	if (said)
		fclose(said);
	while (wait(NULL) > 0)
		;
	end = strstr(line, " - Copyright");
	line[end ? (size_t)(end - line) : strcspn(line, "\n")] = '\0';
	json_text(name, *line ? line : "not installed");
}

void facts_add(void)
{
	const char *open, *close;
	char text[64];

	json_open("facts", '{');
	add_machine();
	add_file_system("files on", bench.dir);
	add_file_system("memory files on", bench.memory_dir);
	add_value("tcp", "/proc/sys/net/ipv4/tcp_congestion_control", "");
	add_value("pipe-max-size", "/proc/sys/fs/pipe-max-size", "");
	snprintf(text, sizeof(text), "fid %s", fid_version());
	json_text("fid", text);
	/* "always [madvise] never" */
	open = value_in("/sys/kernel/mm/transparent_hugepage/enabled", "");
	open += strcspn(open, "[");
	close = strchr(open, ']');
	snprintf(text, sizeof(text), "%.*s", close ? (int)(close - open - 1) : 4,
		 close ? open + 1 : "none");
	json_text("huge pages", text);
	if (bench.peers) {
		add_version("cat, cp, dd, tee, yes", (const char *[]){"cat", "--version", NULL},
			    1);
		add_version("pv", (const char *[]){"pv", "--version", NULL}, 1);
		add_version("socat", (const char *[]){"socat", "-V", NULL}, 2);
		add_version("mbuffer", (const char *[]){"mbuffer", "--version", NULL}, 1);
	}
	json_close('}');
}
