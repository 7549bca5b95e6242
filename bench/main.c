/* SPDX-License-Identifier: MIT */
#include "pair.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUICK_ROUNDS = 6, FULL_ROUNDS = 13, FACTS_MAX = 64, PAIRS_MAX = 32 };

struct bench bench = {.dir = ".", .memory_dir = "/dev/shm", .fid = "fid"};

_Noreturn void fail(const char *what)
{
	fprintf(stderr, "fid-bench: %s: %s\n", what, strerrorname_np(errno));
	exit(1);
}

/* The source file: bytes that do not repeat, written back before anything is timed. */
static void make_source_file(void)
{
	static uint64_t block[128 * KIB / sizeof(uint64_t)];
	uint64_t word = 1;
	int fd;

	snprintf(bench.source_path, sizeof(bench.source_path), "%s/source", bench.dir);
	fd = open(bench.source_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		fail(bench.source_path);
	for (size_t done = 0; done < bench.volume; done += sizeof(block)) {
		for (size_t i = 0; i < sizeof(block) / sizeof(block[0]); i++)
			block[i] = word = word * 6364136223846793005u + 1442695040888963407u;
		if (write(fd, block, sizeof(block)) != (ssize_t)sizeof(block))
			fail(bench.source_path);
	}
	if (fsync(fd) < 0)
		fail(bench.source_path);
	close(fd);
}

bool is_chosen(const char *name)
{
	return !bench.only || strstr(name, bench.only);
}

static void run_pairs(void)
{
	struct conclusion conclusions[PAIRS_MAX];
	size_t count = 0;
	bool any = false;

	for (size_t i = 0; i < pairs_count; i++)
		any |= is_chosen(pairs[i].name);
	if (!any)
		return;
	make_source_file();
	json_open("pairs", '[');
	for (size_t i = 0; i < pairs_count; i++) {
		if (!is_chosen(pairs[i].name))
			continue;
		pair_run(&pairs[i], &conclusions[count++]);
	}
	json_close(']');
	pair_conclusions(conclusions, count);
	unlink(bench.source_path);
}

/* Whether --only means the group, or one that it is the first word of. */
static bool is_chosen_group(const char *name)
{
	return is_chosen(name) || strncmp(bench.only, name, strlen(name)) == 0;
}

static void run_rest(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} rest[] = {
		{"memory", memory_run}, {"constant", constant_run}, {"fan", fan_run},
		{"calls", calls_run},   {"small", small_run},       {"start", start_run},
		{"idle", idle_run},
	};

	for (size_t i = 0; i < sizeof(rest) / sizeof(rest[0]); i++) {
		if (!is_chosen_group(rest[i].name))
			continue;
		fprintf(stderr, "%s ...\n", rest[i].name);
		rest[i].run();
	}
}

static void print_fact(char *fact)
{
	char *value = strchr(fact, '=');

	if (!value)
		return;
	*value++ = '\0';
	json_text(fact, value);
	table_note("%-20s %s", fact, value);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"dir", required_argument, NULL, 'd'},
		{"memory-dir", required_argument, NULL, 'm'},
		{"fid", required_argument, NULL, 'f'},
		{"json", required_argument, NULL, 'j'},
		{"only", required_argument, NULL, 'o'},
		{"rounds", required_argument, NULL, 'r'},
		{"quick", no_argument, NULL, 'q'},
		{"fact", required_argument, NULL, 'F'},
		{NULL, 0, NULL, 0},
	};
	char *facts[FACTS_MAX];
	size_t facts_count = 0;
	FILE *json = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'd')
			bench.dir = optarg;
		else if (option == 'm')
			bench.memory_dir = optarg;
		else if (option == 'f')
			bench.fid = optarg;
		else if (option == 'o')
			bench.only = optarg;
		else if (option == 'r')
			bench.rounds = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 'q')
			bench.quick = true;
		else if (option == 'F' && facts_count < FACTS_MAX)
			facts[facts_count++] = optarg;
		else if (option != 'j')
			return 2;
		else if (!(json = fopen(optarg, "we")))
			fail(optarg);
	}
	if (bench.rounds == 0)
		bench.rounds = bench.quick ? QUICK_ROUNDS : FULL_ROUNDS;
	if (bench.rounds < ROUNDS_MIN || bench.rounds > ROUNDS_MAX)
		return 2;
	bench.volume = bench.quick ? 256 * MIB : 1024 * MIB;
	json_to(json);
	json_open(NULL, '{');
	json_open("facts", '{');
	for (size_t i = 0; i < facts_count; i++)
		print_fact(facts[i]);
	json_close('}');
	json_number("rounds", bench.rounds);
	run_pairs();
	run_rest();
	json_close('}');
	return json && fclose(json) != 0;
}
