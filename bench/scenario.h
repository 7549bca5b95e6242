/* SPDX-License-Identifier: MIT */
/*
 * The scenarios: what can be measured, by name.
 */
#ifndef FID_BENCH_SCENARIO_H
#define FID_BENCH_SCENARIO_H

#include "bench.h"

/* What the results of a scenario are, and so how they are shown. */
enum form {
	FORM_CONTEST, /* entrants against a mark */
	FORM_SWEEP,   /* such contests, one for each size or number */
	FORM_CALLS,
	FORM_SMALL,
	FORM_START,
	FORM_IDLE,
};

struct scenario {
	const char *name;
	const char *line;    /* what it is, for a list */
	const char *section; /* where its results stand in the document */
	enum form form;
	bool by_default;
	bool wants_files; /* as large as the volume */
	void (*run)(const struct scenario *scenario);
	/* FORM_CONTEST and FORM_SWEEP: the entrants that the finding speaks of. */
	const char *ours;  /* what libfid does */
	const char *rival; /* whom a sweep sees win over the mark; else the plain way */
	/* FORM_SWEEP only. */
	const char *axis; /* what is swept */
	const char *each; /* "messages": what has such a size, or is counted */
	bool is_bytes;
	bool shows_ratio; /* the picture is of the cost to the mark's, and not of seconds */
};

extern const struct scenario scenarios[];
extern const size_t scenarios_count;

/* Whether the word means it: "all", its name, or the beginning of that before a dash. */
bool scenario_is_meant(const struct scenario *scenario, const char *word);
/* Adds "rounds" to the document: the fewest that any contest has made. */
void rounds_add(void);

/*
 * The contests of a scenario in a document. Returns how many there are; at most most are put
 * into ret_contests, in the order of the document.
 */
enum { POINTS_MAX = 16 };
size_t scenario_contests(const struct scenario *scenario, const struct json *document,
			 const struct json **ret_contests, size_t most);
/* The place of a contest in its sweep. */
double contest_at(const struct json *contest);
/* How many rounds its contests made; false where there are none. */
bool scenario_rounds(const struct scenario *scenario, const struct json *document,
		     double *ret_fewest, double *ret_most);
/* Whether the document has results of it. */
bool scenario_is_in(const struct scenario *scenario, const struct json *document);

/* finding.c: what the results say, in a sentence without a full stop. */
void finding_write(char *text, size_t capacity, const struct scenario *scenario,
		   const struct json *document);

/* show.c: for people, at most 100 columns wide. */
void table_scenario(FILE *to, const struct scenario *scenario, const struct json *document);
void table_conclusions(FILE *to, const struct json *document);

/* csv.c: a line for each number of the scenario. */
void csv_head(FILE *to);
void csv_scenario(FILE *to, const struct scenario *scenario, const struct json *document);

/* memory.c, constant.c, fan.c, message.c, calls.c, small.c, start.c, idle.c */
void memory_read_run(const struct scenario *scenario);
void memory_splice_run(const struct scenario *scenario);
void constant_read_run(const struct scenario *scenario);
void constant_splice_run(const struct scenario *scenario);
void fan_read_run(const struct scenario *scenario);
void fan_splice_run(const struct scenario *scenario);
void sweep_message_run(const struct scenario *scenario);
void calls_run(const struct scenario *scenario);
void small_run(const struct scenario *scenario);
void start_run(const struct scenario *scenario);
void idle_run(const struct scenario *scenario);

#endif
