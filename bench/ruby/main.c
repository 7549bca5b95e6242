/* SPDX-License-Identifier: MIT */
#include "ruby.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUICK_ROUNDS = 6, FULL_ROUNDS = 13, FACTS_MAX = 64, CONCLUSIONS_MAX = 64 };

/* What a Ruby mover may cost of the C loop. Nothing fails above it. */
static const double BAR = 1.05;

struct bench bench = {.dir = ".", .memory_dir = "/dev/shm"};

static struct {
	const char *contest;
	const char *name;
	struct summary cost;
	struct summary speed;
	struct summary polled;
	bool has_bar; /* and polled */
} conclusions[CONCLUSIONS_MAX];
static size_t conclusions_count;

_Noreturn void fail(const char *what)
{
	fprintf(stderr, "fid-bench-ruby: %s: %s\n", what, strerrorname_np(errno));
	exit(1);
}

bool is_chosen(const char *name)
{
	return !bench.only || strstr(name, bench.only);
}

void conclusion_add(const char *contest, const char *name, const struct result *result,
		    const struct result *mark, const struct result *polled)
{
	if (conclusions_count == CONCLUSIONS_MAX)
		fail("more conclusions than CONCLUSIONS_MAX");
	conclusions[conclusions_count].contest = contest;
	conclusions[conclusions_count].name = name;
	conclusions[conclusions_count].cost = cost_ratio(result, mark);
	conclusions[conclusions_count].speed = speed_ratio(result, mark);
	conclusions[conclusions_count].has_bar = polled != NULL;
	if (polled)
		conclusions[conclusions_count].polled = cost_ratio(result, polled);
	conclusions_count++;
}

/* "Over" only when that can be told from noise. */
static const char *place_of(const struct summary *cost)
{
	if (cost->low > BAR)
		return "over";
	return cost->median > BAR ? "over?" : "within";
}

static void print_cost(const char *name, const struct summary *cost, bool has_bar)
{
	printf("  %5.2f %5.2f-%-5.2f %-6s", cost->median, cost->low, cost->high,
	       has_bar ? place_of(cost) : "");
	json_summary(name, cost);
}

static void print_conclusions(void)
{
	const char *before = "";

	if (conclusions_count == 0)
		return;
	table_note(
		"\nIn short: Ruby's cost to that of the C loop; its cost to that of the C loop "
		"that polls, since"
		"\nRuby's pipes and sockets have O_NONBLOCK; its speed to that of the C loop. "
		"The bar for costs is %.2f;"
		"\n\"over?\" may be noise. Between pipes who sleeps less is faster and costs "
		"more.",
		BAR);
	json_number("bar", BAR);
	json_open("conclusions", '[');
	for (size_t i = 0; i < conclusions_count; i++) {
		bool is_same = strcmp(before, conclusions[i].contest) == 0;

		before = conclusions[i].contest;
		json_open(NULL, '{');
		json_text("contest", before);
		json_text("name", conclusions[i].name);
		printf("  %-25s  %-22s", is_same ? "" : before, conclusions[i].name);
		print_cost("ratio", &conclusions[i].cost, conclusions[i].has_bar);
		if (conclusions[i].has_bar)
			print_cost("polled_ratio", &conclusions[i].polled, true);
		else
			printf("%26s", "");
		json_summary("speed_ratio", &conclusions[i].speed);
		table_note("  %5.2f %5.2f-%.2f", conclusions[i].speed.median,
			   conclusions[i].speed.low, conclusions[i].speed.high);
		json_close('}');
	}
	json_close(']');
}

/* The source file is written back before anything is timed, and stays in the page cache. */
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

static void print_fact(char *fact)
{
	char *value = strchr(fact, '=');

	if (!value)
		return;
	*value++ = '\0';
	json_text(fact, value);
	table_note("%-20s %s", fact, value);
}

static void print_facts(char **facts, size_t count)
{
	static char text[MESSAGE_MAX];
	char *fact, *rest = text;

	json_open("facts", '{');
	for (size_t i = 0; i < count; i++)
		print_fact(facts[i]);
	snprintf(text, sizeof(text), "%s", worker_facts());
	while ((fact = strsep(&rest, "\t")))
		print_fact(fact);
	json_close('}');
}

static void run_all(void)
{
	if (stages_chosen()) {
		make_source_file();
		stages_run();
		unlink(bench.source_path);
	}
	if (is_chosen("ruby-fibers") || (bench.only && strstr(bench.only, "ruby-fibers")))
		fibers_run();
	if (is_chosen("ruby-calls"))
		overhead_run();
	print_conclusions();
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"dir", required_argument, NULL, 'd'},
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
	if (bench.rounds < ROUNDS_MIN || bench.rounds > ROUNDS_MAX || optind == argc)
		return 2;
	worker_command((const char *const *)argv + optind);
	bench.volume = bench.quick ? 64 * MIB : 256 * MIB;
	json_to(json);
	json_open(NULL, '{');
	print_facts(facts, facts_count);
	json_number("rounds", bench.rounds);
	run_all();
	json_close('}');
	worker_end();
	return json && fclose(json) != 0;
}
