/* SPDX-License-Identifier: MIT */
#include "../../bench/plot.h"
#include "../../bench/table.h"
#include "command.h"
#include "gnuplot.h"
#include "job.h"
#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const char bench_help[] =
	"Usage: fid bench [OPTION]... [SCENARIO]...\n"
	"\n"
	"Measures what moving bytes costs on this machine: libfid and fid against loops\n"
	"by hand, and against read and write. A SCENARIO is a name of --list, or the\n"
	"beginning of some before a dash, such as 'sweep'; 'all' is all. Without one\n"
	"there are some that take about a minute.\n"
	"\n"
	"  --list                    the scenarios, with a line each\n"
	"  --seconds N               the time for each scenario: 5 by itself\n"
	"  --rounds N                6 to 64 rounds of each, in any case\n"
	"  --dir DIR                 make files there, up to 3 GiB, and remove them; by\n"
	"                            itself in TMPDIR, or else in /var/tmp\n"
	"  --peers                   cat, cp, dd, mbuffer, pv, socat, tee and yes as well\n"
	"\n"
	"What to do with the results\n"
	"  --json                    print them as JSON, and no table\n"
	"  --csv                     print them as CSV, and no table\n"
	"  --plot FILE.svg|FILE.png  draw them with gnuplot; several scenarios go to\n"
	"                            FILE-SCENARIO.svg\n"
	"  --from FILE               take the results that --json once printed into FILE,\n"
	"                            or - for standard input, and measure nothing\n"
	"  -h, --help                this text\n"
	"  --version                 the version\n"
	"\n"
	"Run it where nothing else runs. fid-bench(1) tells how to read it.\n"
	"\n"
	"  fid bench\n"
	"  fid bench --seconds 20 --plot message.svg sweep-message\n"
	"  fid bench --peers --json all > results.json\n"
	"  fid bench --from results.json --plot results.png sweep memory\n";

enum {
	OPTION_LIST = 256,
	OPTION_SECONDS,
	OPTION_ROUNDS,
	OPTION_DIR,
	OPTION_PEERS,
	OPTION_JSON,
	OPTION_CSV,
	OPTION_PLOT,
	OPTION_FROM,
	OPTION_VERSION,
};

static const struct option options[] = {
	{"list", no_argument, NULL, OPTION_LIST},
	{"seconds", required_argument, NULL, OPTION_SECONDS},
	{"rounds", required_argument, NULL, OPTION_ROUNDS},
	{"dir", required_argument, NULL, OPTION_DIR},
	{"peers", no_argument, NULL, OPTION_PEERS},
	{"json", no_argument, NULL, OPTION_JSON},
	{"csv", no_argument, NULL, OPTION_CSV},
	{"plot", required_argument, NULL, OPTION_PLOT},
	{"from", required_argument, NULL, OPTION_FROM},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, OPTION_VERSION},
	{0},
};

/* A day for one scenario is a slip of the finger. */
enum { SECONDS_USUAL = 5, SECONDS_MAX = 3600, SCENARIOS_MAX = 64 };

enum output { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_CSV };

struct wish {
	bool chosen[SCENARIOS_MAX];
	bool named; /* by an operand */
	const char *dir;
	enum output output;
	const char *plot;     /* or NULL */
	const char *from;     /* or NULL */
	const char *measures; /* an option that is about measuring alone, or NULL */
	struct progress *progress;
};

struct bench bench = {.seconds = SECONDS_USUAL};

_Noreturn void fail(const char *what)
{
	int error = errno;
	char shown[512];

	print_error("%s: %s", print_name(shown, sizeof(shown), what), strerror(error));
	print_hint_for(error, FID_SIDE_SINK);
	exit(STATUS_FAILED);
}

static bool list_scenarios(void)
{
	char list[8192] = "";

	for (size_t i = 0; i < scenarios_count; i++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%c %-16s  %s\n",
			 scenarios[i].by_default ? '*' : ' ', scenarios[i].name,
			 scenarios[i].line);
	return print_text(STDOUT_FILENO, list) &&
	       print_text(STDOUT_FILENO, "* is measured where no SCENARIO is named.\n");
}

/* ---- What is asked for ---- */

static bool parse_number(const struct job *job, const char *option, const char *text,
			 double least, double most, double *ret_number)
{
	char shown[128], *end;

	*ret_number = strtod(text, &end);
	/* strtod() takes much that is no number to people: "inf", "0x10", " 1". */
	if (*text && strspn(text, "0123456789.") == strlen(text) && !*end &&
	    *ret_number >= least && *ret_number <= most)
		return true;
	job_misused(job, "%s wants a number from %g to %g, not '%s'", option, least, most,
		    print_name(shown, sizeof(shown), text));
	return false;
}

static bool is_picture(const char *path, enum picture *ret_picture)
{
	const char *dot = strrchr(path, '.');

	*ret_picture = dot && strcmp(dot, ".png") == 0 ? PICTURE_PNG : PICTURE_SVG;
	return dot && dot != path && dot[-1] != '/' &&
	       (strcmp(dot, ".svg") == 0 || strcmp(dot, ".png") == 0);
}

static bool take_option(const struct job *job, struct wish *wish, int option)
{
	enum picture picture;
	double number;

	switch (option) {
	case OPTION_SECONDS:
		wish->measures = "--seconds";
		return parse_number(job, "--seconds", optarg, 0.01, SECONDS_MAX,
				    &bench.seconds);
	case OPTION_ROUNDS:
		wish->measures = "--rounds";
		if (!parse_number(job, "--rounds", optarg, ROUNDS_MIN, ROUNDS_MAX, &number))
			return false;
		bench.rounds = (unsigned)number;
		if (number == bench.rounds)
			return true;
		job_misused(job, "--rounds: there are no halves of rounds");
		return false;
	case OPTION_DIR:
		wish->measures = "--dir";
		wish->dir = optarg;
		return true;
	case OPTION_PEERS:
		wish->measures = "--peers";
		bench.peers = true;
		return true;
	case OPTION_JSON:
	case OPTION_CSV:
		if (wish->output != OUTPUT_TABLE) {
			job_misused(job, "one of --json and --csv, and only once");
			return false;
		}
		wish->output = option == OPTION_JSON ? OUTPUT_JSON : OUTPUT_CSV;
		return true;
	case OPTION_PLOT:
		wish->plot = optarg;
		if (is_picture(optarg, &picture))
			return true;
		job_misused(job, "--plot wants a name that ends in .svg or .png");
		return false;
	default:
		wish->from = optarg;
		return true;
	}
}

static int unknown_scenario(const char *name)
{
	const char *names[SCENARIOS_MAX], *nearest;
	char shown[128];

	for (size_t i = 0; i < scenarios_count; i++)
		names[i] = scenarios[i].name;
	nearest = nearest_word(name, names, scenarios_count);
	print_error("there is no scenario '%s'", print_name(shown, sizeof(shown), name));
	if (nearest)
		print_hint("did you mean '%s'?", nearest);
	else
		print_hint("'fid bench --list' lists the scenarios");
	return STATUS_USAGE;
}

static int choose(struct wish *wish, char **names)
{
	wish->named = *names != NULL;
	for (size_t i = 0; i < scenarios_count && !wish->named; i++)
		wish->chosen[i] = wish->from || scenarios[i].by_default;
	for (; *names; names++) {
		bool found = false;

		for (size_t i = 0; i < scenarios_count; i++) {
			bool meant = scenario_is_meant(&scenarios[i], *names);

			wish->chosen[i] |= meant;
			found |= meant;
		}
		if (!found)
			return unknown_scenario(*names);
	}
	return STATUS_DONE;
}

/* ---- What is made of the results ---- */

struct drawing {
	enum picture picture;
	struct chart chart;
};

static void draw(FILE *to, const void *about)
{
	const struct drawing *drawing = about;

	plot_write(to, drawing->picture, &drawing->chart);
}

static size_t count_chosen(const struct wish *wish)
{
	size_t count = 0;

	for (size_t i = 0; i < scenarios_count; i++)
		count += wish->chosen[i];
	return count;
}

static bool draw_all(const struct wish *wish, const struct json *document)
{
	size_t stem = (size_t)(strrchr(wish->plot, '.') - wish->plot);
	static struct drawing drawing;
	char path[PATH_MAX];
	bool good = true;

	is_picture(wish->plot, &drawing.picture);
	for (size_t i = 0; i < scenarios_count; i++) {
		if (!wish->chosen[i])
			continue;
		snprintf(path, sizeof(path), "%s", wish->plot);
		if (count_chosen(wish) > 1)
			snprintf(path, sizeof(path), "%.*s-%s%s", (int)stem, wish->plot,
				 scenarios[i].name, wish->plot + stem);
		if (!chart_make(&drawing.chart, &scenarios[i], document)) {
			print_error("%s: nothing was measured that could be drawn",
				    scenarios[i].name);
			good = false;
			continue;
		}
		good &= gnuplot_draw(path, draw, &drawing);
	}
	return good;
}

static bool show_all(const struct wish *wish, const struct json *document)
{
	if (wish->output == OUTPUT_JSON)
		return json_write(stdout, document);
	if (wish->output == OUTPUT_CSV)
		csv_head(stdout);
	for (size_t i = 0; i < scenarios_count; i++)
		if (wish->chosen[i] && wish->output == OUTPUT_CSV)
			csv_scenario(stdout, &scenarios[i], document);
	if (wish->output == OUTPUT_TABLE)
		table_conclusions(stdout, document);
	return fflush(stdout) == 0 && !ferror(stdout);
}

static int finish(const struct wish *wish, const struct json *document)
{
	if (!show_all(wish, document)) {
		print_error("cannot print: %s", strerror(errno));
		return STATUS_FAILED;
	}
	if (wish->plot && !draw_all(wish, document))
		return STATUS_FAILED;
	return STATUS_DONE;
}

/* ---- Results that are there already ---- */

static struct json *read_results(const char *path)
{
	char shown[512], *text = NULL;
	size_t capacity = 0;
	unsigned line = 0;
	struct json *document = NULL;
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	ssize_t length = file ? getdelim(&text, &capacity, '\0', file) : -1;

	print_name(shown, sizeof(shown), file == stdin ? "standard input" : path);
	if (length < 0) {
		print_error("%s (results): %s", shown,
			    file && feof(file) ? "it is empty" : strerror(errno));
	} else {
		document = json_read(text, (size_t)length, &line);
		if (!document)
			print_error("%s (results): line %u is not what 'fid bench --json' "
				    "prints",
				    shown, line);
	}
	if (file && file != stdin)
		fclose(file);
	free(text);
	return document;
}

static int show_results(struct wish *wish)
{
	const struct json *document = read_results(wish->from);
	char shown[512];

	if (!document)
		return STATUS_FAILED;
	print_name(shown, sizeof(shown), wish->from);
	for (size_t i = 0; i < scenarios_count; i++)
		wish->chosen[i] &= scenario_is_in(&scenarios[i], document);
	if (count_chosen(wish) == 0) {
		print_error("%s (results): it has nothing of %s", shown,
			    wish->named ? "these scenarios" : "any scenario");
		return STATUS_FAILED;
	}
	if (wish->output == OUTPUT_TABLE) {
		table_facts(stdout, document);
		table_explain(stdout);
	}
	for (size_t i = 0; i < scenarios_count && wish->output == OUTPUT_TABLE; i++)
		if (wish->chosen[i])
			table_scenario(stdout, &scenarios[i], document);
	return finish(wish, document);
}

/* ---- Measuring ---- */

/* Whether an entrant did not do its work; that one is not installed is no matter. */
static bool has_failure(const struct json *json)
{
	if (json->name && strcmp(json->name, "failure") == 0 && json->kind == JSON_TEXT &&
	    strcmp(json->text, "not installed") != 0)
		return true;
	for (const struct json *child = json->first; child; child = child->next)
		if (has_failure(child))
			return true;
	return false;
}

static void run_scenario(const struct wish *wish, const struct scenario *scenario, size_t turn)
{
	char line[128];

	snprintf(line, sizeof(line), "scenario %zu of %zu: %s", turn, count_chosen(wish),
		 scenario->name);
	progress_say(wish->progress, line);
	scenario->run(scenario);
	progress_clear(wish->progress);
	if (wish->output == OUTPUT_TABLE)
		table_scenario(stdout, scenario, json_root());
}

static int run_all(void *context, const char *dir, const char *memory_dir)
{
	const struct wish *wish = context;
	static char fid[PATH_MAX];
	size_t turn = 0;
	int status;

	if (readlink("/proc/self/exe", fid, sizeof(fid) - 1) < 0)
		fail("/proc/self/exe");
	bench.fid = fid;
	bench.dir = dir;
	bench.memory_dir = memory_dir;
	facts_add();
	json_number("seconds", bench.seconds);
	if (wish->output == OUTPUT_TABLE) {
		table_facts(stdout, json_root());
		table_explain(stdout);
		fflush(stdout);
	}
	/* Where nothing can be printed nothing is measured either. */
	for (size_t i = 0; i < scenarios_count && !ferror(stdout); i++)
		if (wish->chosen[i])
			run_scenario(wish, &scenarios[i], ++turn);
	rounds_add();
	status = finish(wish, json_root());
	if (status == STATUS_DONE && has_failure(json_root())) {
		print_error("some of the bytes did not arrive: see where it says 'fail'");
		status = STATUS_FAILED;
	}
	return status;
}

/* What would fail after minutes of measuring fails now. */
static bool can_draw(const char *path)
{
	char folder[PATH_MAX], shown[512];
	char *slash;

	if (!gnuplot_is_here())
		return false;
	snprintf(folder, sizeof(folder), "./%s", path);
	slash = strrchr(folder, '/');
	slash[1] = '\0';
	if (access(*path == '/' ? folder + 1 : folder, W_OK) == 0)
		return true;
	print_error("%s: no picture can be made there: %s",
		    print_name(shown, sizeof(shown), path), strerror(errno));
	return false;
}

static int measure(struct wish *wish)
{
	struct measure job = {.dir = wish->dir, .run = run_all, .context = wish};
	const char *folder = getenv("TMPDIR");

	if (!job.dir)
		job.dir = folder && *folder ? folder : "/var/tmp";
	/* The volume that the time allows, some 10 GiB a second in all. */
	bench.volume_max = 4 * VOLUME_MIN;
	while (bench.volume_max < 1024 * MIB &&
	       (double)bench.volume_max < bench.seconds * 100 * (double)MIB)
		bench.volume_max *= 2;
	job.bytes = MIB;
	for (size_t i = 0; i < scenarios_count; i++) {
		if (wish->chosen[i] && scenarios[i].wants_files)
			job.bytes = 3 * (uint64_t)bench.volume_max;
		if (wish->chosen[i] && strcmp(scenarios[i].name, "file-memory") == 0)
			job.memory_bytes = bench.volume_max;
	}
	wish->progress = job.progress = mmap(NULL, sizeof(*job.progress),
					     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
					     -1, 0);
	if (job.progress == MAP_FAILED)
		fail("mmap");
	progress_begin(job.progress, false, NULL);
	return measure_run(&job);
}

int bench_run(int argc, char **argv)
{
	struct job job = {.command = "bench", .help = bench_help};
	struct wish wish = {0};
	int option, status;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (option) {
		case OPTION_LIST:
			return list_scenarios() ? STATUS_DONE : STATUS_FAILED;
		case 'h':
			return print_text(STDOUT_FILENO, bench_help) ? STATUS_DONE
								     : STATUS_FAILED;
		case OPTION_VERSION:
			return print_version() ? STATUS_DONE : STATUS_FAILED;
		case '?':
		case ':':
			return job_option_misused(&job, options, option, argv[optind - 1]);
		default:
			if (!take_option(&job, &wish, option))
				return STATUS_USAGE;
		}
	}
	if (wish.from && wish.measures)
		return job_misused(&job, "--from measures nothing, so %s has no part in it",
				   wish.measures);
	status = choose(&wish, argv + optind);
	if (status != STATUS_DONE)
		return status;
	if (wish.plot && !can_draw(wish.plot))
		return STATUS_FAILED;
	return wish.from ? show_results(&wish) : measure(&wish);
}
