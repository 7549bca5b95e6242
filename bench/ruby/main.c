/* SPDX-License-Identifier: MIT */
#include "../table.h"
#include "ruby.h"

#include <errno.h>
#include <fid.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUICK_ROUNDS = 6, FULL_ROUNDS = 13, CONCLUSIONS_MAX = 64 };

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
	fprintf(stderr, "fid-bench-ruby: %s: %s\n", what, fid_error_name(errno));
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

static void print_facts(void)
{
	static char text[MESSAGE_MAX];
	char *fact, *rest = text, *value;

	facts_add();
	json_open("facts", '{');
	snprintf(text, sizeof(text), "%s", worker_facts());
	while ((fact = strsep(&rest, "\t"))) {
		value = strchr(fact, '=');
		if (!value)
			continue;
		*value++ = '\0';
		json_text(fact, value);
	}
	json_close('}');
	table_facts(stdout, json_root());
}

static void run_all(void)
{
	if (stages_chosen()) {
		stages_run();
		unlink(source_file(bench.volume));
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
		{NULL, 0, NULL, 0},
	};
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
	print_facts();
	json_number("rounds", bench.rounds);
	table_explain(stdout);
	run_all();
	worker_end();
	return json && !json_write(json, json_root());
}
