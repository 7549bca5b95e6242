/* SPDX-License-Identifier: MIT */
/*
 * The document as lines of fields: each number is a line of its own, so that all scenarios fit
 * into one table.
 */
#include "scenario.h"

#include <math.h>
#include <string.h>

/* Where a number stands. */
struct place {
	const char *scenario;
	const char *contest;
	double at; /* NAN: nowhere */
	const char *entrant;
};

void csv_head(FILE *to)
{
	fputs("scenario,contest,at,entrant,measure,median,low,high,failure\n", to);
}

static void put_text(FILE *to, const char *text)
{
	if (!strpbrk(text, ",\"")) {
		fputs(text, to);
		return;
	}
	fputc('"', to);
	for (; *text; text++) {
		if (*text == '"')
			fputc('"', to);
		fputc(*text, to);
	}
	fputc('"', to);
}

static void put_field(FILE *to, const char *text)
{
	put_text(to, text);
	fputc(',', to);
}

static void put_number(FILE *to, double value)
{
	if (isfinite(value))
		json_write_number(to, value);
	fputc(',', to);
}

static void put_place(FILE *to, const struct place *place, const char *measure)
{
	put_field(to, place->scenario);
	put_field(to, place->contest);
	put_number(to, place->at);
	put_field(to, place->entrant);
	put_field(to, measure);
}

/* All that an object has: summaries, numbers, and objects of an entrant. */
static void put_object(FILE *to, const struct place *place, const struct json *object)
{
	for (const struct json *one = object->first; one; one = one->next) {
		struct summary summary;

		if (!one->name || strcmp(one->name, "bytes") == 0)
			continue;
		if (json_summary_of(object, one->name, &summary)) {
			put_place(to, place, one->name);
			put_number(to, summary.median);
			put_number(to, summary.low);
			put_number(to, summary.high);
		} else if (one->kind == JSON_OBJECT && !json_get(one, "median")) {
			struct place inner = *place;

			inner.entrant = one->name;
			put_object(to, &inner, one);
			continue;
		} else if (one->kind == JSON_NUMBER) {
			put_place(to, place, one->name);
			put_number(to, one->number);
			fputs(",,", to);
		} else if (strcmp(one->name, "failure") == 0) {
			put_place(to, place, "failure");
			fputs(",,,", to);
			put_text(to, json_text_of(object, "failure"));
		} else {
			continue;
		}
		fputc('\n', to);
	}
}

static void put_contest(FILE *to, const struct scenario *scenario, const struct json *contest)
{
	const struct json *list = json_get(contest, "entrants");
	struct place place = {.scenario = scenario->name,
			      .contest = json_text_of(contest, "name"),
			      .at = NAN};

	if (scenario->form == FORM_SWEEP)
		place.at = contest_at(contest);
	for (const struct json *one = list ? list->first : NULL; one; one = one->next) {
		place.entrant = json_text_of(one, "name");
		put_object(to, &place, one);
	}
}

void csv_scenario(FILE *to, const struct scenario *scenario, const struct json *document)
{
	const struct json *contests[POINTS_MAX];
	const struct json *section = json_get(document, scenario->section);
	size_t count = scenario_contests(scenario, document, contests, POINTS_MAX);
	struct place place = {.scenario = scenario->name, .contest = "", .entrant = ""};

	for (size_t i = 0; i < count; i++)
		put_contest(to, scenario, contests[i]);
	if (count > 0)
		return;
	place.at = NAN;
	if (section->kind == JSON_OBJECT)
		put_object(to, &place, section);
	for (const struct json *one = section->kind == JSON_LIST ? section->first : NULL; one;
	     one = one->next) {
		place.contest = json_text_of(one, "title");
		place.at = json_number_of(one, "bytes");
		put_object(to, &place, one);
	}
}
