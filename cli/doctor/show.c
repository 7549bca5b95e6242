/* SPDX-License-Identifier: MIT */
/*
 * What fid doctor found: one screen for people, one line for machines.
 */
#include "doctor.h"
#include "print.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum {
	COLUMNS = 100,
	STATE_AT = 2,
	TITLE_AT = 11,
	DETAIL_AT = 29,
};

static const char *const state_names[] = {"ok", "limited", "missing", "unknown"};

static const struct group *group_at(const struct report *report, size_t index)
{
	if (index < GROUPS)
		return &report->groups[index];
	index -= GROUPS;
	return index < report->places_count ? &report->places[index].group : NULL;
}

void report_count(const struct report *report, struct tally *ret_tally)
{
	const struct group *group;

	memset(ret_tally, 0, sizeof(*ret_tally));
	for (size_t i = 0; (group = group_at(report, i)); i++) {
		for (size_t j = 0; j < group->count; j++) {
			if (group->findings[j].informs)
				continue;
			ret_tally->missing += group->findings[j].state == STATE_MISSING;
			ret_tally->limited += group->findings[j].state == STATE_LIMITED;
			ret_tally->unknown += group->findings[j].state == STATE_UNKNOWN;
		}
	}
}

/* ---- For people ---- */

struct screen {
	FILE *to;
	bool coloured;
};

/* Words of text from that column on, in as many lines as they take. */
static void put_words(const struct screen *screen, const char *text, size_t from)
{
	size_t column = from, space;

	for (; *text; text += space) {
		size_t length = strcspn(text, " ");

		if (column > from && column + 1 + length > COLUMNS) {
			fprintf(screen->to, "\n%*s", (int)from, "");
			column = from;
		} else if (column > from) {
			putc(' ', screen->to);
			column++;
		}
		/* A word that fits in no line is cut. */
		if (length > COLUMNS - from)
			fprintf(screen->to, "%.*s...", (int)(COLUMNS - from) - 3, text);
		else
			fprintf(screen->to, "%.*s", (int)length, text);
		column += length;
		space = length + strspn(text + length, " ");
	}
	putc('\n', screen->to);
}

static void put_row(const struct screen *screen, enum state state, const char *title,
		    const char *detail)
{
	static const char *const colours[] = {"32", "33", "31", "35"};

	fprintf(screen->to, "%*s", STATE_AT, "");
	if (screen->coloured)
		fprintf(screen->to, "\033[%sm", colours[state]);
	fprintf(screen->to, "%-*s", TITLE_AT - STATE_AT, state_names[state]);
	if (screen->coloured)
		fputs("\033[0m", screen->to);
	fprintf(screen->to, "%-*s", DETAIL_AT - TITLE_AT, title);
	put_words(screen, detail, DETAIL_AT);
}

/* Not what is folded, nor what was not asked: another finding tells why. */
static bool is_shown(const struct finding *finding)
{
	return !(finding->folded && finding->state == STATE_OK) &&
	       !(finding->informs && finding->state == STATE_UNKNOWN);
}

static void put_finding(const struct screen *screen, const struct finding *finding)
{
	if (!is_shown(finding))
		return;
	put_row(screen, finding->state, finding->title, finding->detail);
	if (!finding->advice[0])
		return;
	fprintf(screen->to, "%*s> ", DETAIL_AT, "");
	put_words(screen, finding->advice, DETAIL_AT + 2);
}

static void put_heading(const struct screen *screen, const char *text)
{
	fprintf(screen->to, screen->coloured ? "\033[1m%s\033[0m\n" : "%s\n", text);
}

static bool is_direction(const struct finding *finding, const char *direction)
{
	return strncmp(finding->key, direction, strlen(direction)) == 0;
}

/* Those ends of one direction and state that splice takes or not, as a row. */
static void put_ends(const struct screen *screen, const struct group *group,
		     const char *direction, enum state state, bool taken, const char *title)
{
	char list[512] = "";

	for (size_t i = 0; i < group->count; i++) {
		const struct finding *finding = &group->findings[i];

		if (is_direction(finding, direction) && finding->state == state &&
		    (strcmp(finding->value, "true") == 0) == taken)
			snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s",
				 list[0] ? ", " : "", finding->title);
	}
	if (list[0])
		put_row(screen, state, title, list);
}

/* Two dozen of them: those that are as they should be share a row. */
static void show_ends(const struct screen *screen, const struct group *group)
{
	const char *why = group->findings[0].detail;
	size_t alike = 0;

	put_heading(screen, group->title);
	while (alike < group->count && strcmp(group->findings[alike].detail, why) == 0)
		alike++;
	if (alike == group->count && group->findings[0].state == STATE_UNKNOWN) {
		put_row(screen, STATE_UNKNOWN, "any of them", why);
		return;
	}
	put_ends(screen, group, "source_", STATE_OK, true, "spliced from");
	put_ends(screen, group, "source_", STATE_OK, false, "not spliced: from");
	put_ends(screen, group, "sink_", STATE_OK, true, "spliced to");
	put_ends(screen, group, "sink_", STATE_OK, false, "not spliced: to");
	put_ends(screen, group, "source_", STATE_UNKNOWN, false, "not asked: from");
	put_ends(screen, group, "sink_", STATE_UNKNOWN, false, "not asked: to");
	for (size_t i = 0; i < group->count; i++) {
		struct finding shown = group->findings[i];
		char title[64];

		if (shown.state == STATE_OK || shown.state == STATE_UNKNOWN)
			continue;
		snprintf(title, sizeof(title), "%s %s",
			 is_direction(&shown, "sink_") ? "to" : "from", shown.title);
		shown.title = title;
		put_finding(screen, &shown);
	}
}

static void show_group(const struct screen *screen, const struct group *group)
{
	put_heading(screen, group->title);
	for (size_t i = 0; i < group->count; i++)
		put_finding(screen, &group->findings[i]);
}

static void show_place(const struct screen *screen, const struct place *place)
{
	char name[PATH_MAX], line[COLUMNS + 8];
	const char *tail;
	size_t room = COLUMNS - strlen("Files in ");

	print_name(name, sizeof(name),
		   place->directory[0] ? place->directory : place->group.path);
	tail = name;
	if (strlen(name) > room) {
		tail += strlen(name) - (room - 3);
		/* Not in the middle of a character. */
		while (((unsigned char)*tail & 0xc0) == 0x80)
			tail++;
	}
	snprintf(line, sizeof(line), "Files in %s%.*s", tail == name ? "" : "...", (int)room,
		 tail);
	put_heading(screen, line);
	for (size_t i = 0; i < place->group.count; i++)
		put_finding(screen, &place->group.findings[i]);
}

static bool any_deadly(const struct report *report)
{
	const struct group *group;

	for (size_t i = 0; (group = group_at(report, i)); i++)
		for (size_t j = 0; j < group->count; j++)
			if (group->findings[j].deadly && !group->findings[j].informs)
				return true;
	return false;
}

static void put_names(FILE *to, const struct report *report, enum state state)
{
	const struct group *group;
	const char *mark = " ";
	char name[64];

	for (size_t i = 0; (group = group_at(report, i)); i++)
		for (size_t j = 0; j < group->count; j++) {
			if (group->findings[j].state != state || group->findings[j].informs)
				continue;
			fprintf(to, "%s%s", mark, group->findings[j].key);
			/* Of one path nobody asks which. */
			if (group->path && report->places_count > 1)
				fprintf(to, " of %s",
					print_name(name, sizeof(name), group->path));
			mark = ", ";
		}
}

static void show_summary(const struct screen *screen, const struct report *report)
{
	struct tally tally;
	char *text = NULL;
	size_t length;
	FILE *to = open_memstream(&text, &length);

	if (!to)
		return;
	report_count(report, &tally);
	if (tally.missing + tally.unknown == 0)
		fprintf(to, "fid can use everything here.");
	if (tally.missing > 0) {
		fprintf(to, "%u %s missing:", tally.missing,
			tally.missing == 1 ? "thing is" : "things are");
		put_names(to, report, STATE_MISSING);
		fprintf(to, any_deadly(report)
				    ? ". The sandbox kills fid where it tries one of these."
				    : ". fid works all the same, and copies where it must.");
	}
	if (tally.unknown > 0) {
		fprintf(to, "%s%u not known:", tally.missing ? " " : "", tally.unknown);
		put_names(to, report, STATE_UNKNOWN);
		putc('.', to);
	}
	if (tally.limited > 0) {
		fprintf(to, " %u limited:", tally.limited);
		put_names(to, report, STATE_LIMITED);
		putc('.', to);
	}
	if (fclose(to) == 0)
		put_words(screen, text, 0);
	free(text);
}

static void kernel_name(char *buffer, size_t capacity)
{
	struct utsname name;

	if (uname(&name) == 0)
		snprintf(buffer, capacity, "%s %s %s", name.sysname, name.release,
			 name.machine);
	else
		snprintf(buffer, capacity, "unknown");
}

static bool wants_colour(void)
{
	const char *terminal = getenv("TERM"), *no = getenv("NO_COLOR");

	return isatty(STDOUT_FILENO) && !(no && *no) && terminal &&
	       strcmp(terminal, "dumb") != 0;
}

static bool flush(FILE *to, char **text)
{
	bool printed = fclose(to) == 0 && print_text(STDOUT_FILENO, *text);

	free(*text);
	return printed;
}

static FILE *begin(char **text, size_t *length)
{
	FILE *to = open_memstream(text, length);

	if (!to)
		print_error("%s", strerror(errno));
	return to;
}

bool report_show(const struct report *report)
{
	char *text = NULL, kernel[256], line[400];
	size_t length;
	struct screen screen = {.to = begin(&text, &length), .coloured = wants_colour()};

	if (!screen.to)
		return false;
	kernel_name(kernel, sizeof(kernel));
	snprintf(line, sizeof(line), "fid %s on %s, user %u, %s", fid_version(), kernel,
		 (unsigned)geteuid(),
		 sandboxed() ? "under a seccomp filter" : "no seccomp filter");
	put_words(&screen, line, 0);
	for (int i = 0; i < GROUPS; i++)
		(i == ENDS ? show_ends : show_group)(&screen, &report->groups[i]);
	for (size_t i = 0; i < report->places_count; i++)
		show_place(&screen, &report->places[i]);
	show_summary(&screen, report);
	return flush(screen.to, &text);
}

/* ---- For machines ---- */

static void put_text(FILE *to, const char *key, const char *text)
{
	fprintf(to, "\"%s\":", key);
	print_json_string(to, text && *text ? text : NULL);
}

static void put_findings(FILE *to, const struct group *group)
{
	for (size_t i = 0; i < group->count; i++) {
		const struct finding *finding = &group->findings[i];

		fprintf(to, "%s\"%s\":{\"state\":\"%s\",\"value\":%s,", i ? "," : "",
			finding->key, state_names[finding->state],
			finding->value[0] ? finding->value : "null");
		put_text(to, "error", finding->error ? fid_error_name(finding->error) : NULL);
		putc(',', to);
		put_text(to, "detail", finding->detail);
		putc(',', to);
		put_text(to, "advice", finding->advice);
		putc('}', to);
	}
}

static void put_place(FILE *to, const struct place *place)
{
	putc('{', to);
	put_text(to, "path", place->group.path);
	putc(',', to);
	put_text(to, "directory", place->directory);
	fputs(",\"findings\":{", to);
	put_findings(to, &place->group);
	fputs("}}", to);
}

bool report_json(const struct report *report)
{
	char *text = NULL, kernel[256];
	size_t length;
	FILE *to = begin(&text, &length);
	struct tally tally;

	if (!to)
		return false;
	report_count(report, &tally);
	kernel_name(kernel, sizeof(kernel));
	putc('{', to);
	put_text(to, "version", fid_version());
	putc(',', to);
	put_text(to, "kernel", kernel);
	fprintf(to, ",\"user\":%u,\"seccomp_filter\":%s", (unsigned)geteuid(),
		sandboxed() ? "true" : "false");
	fprintf(to, ",\"complete\":%s,\"missing\":%u,\"unknown\":%u,\"limited\":%u",
		tally.missing + tally.unknown == 0 ? "true" : "false", tally.missing,
		tally.unknown, tally.limited);
	for (int i = 0; i < GROUPS; i++) {
		fprintf(to, ",\"%s\":{", report->groups[i].key);
		put_findings(to, &report->groups[i]);
		putc('}', to);
	}
	fputs(",\"paths\":[", to);
	for (size_t i = 0; i < report->places_count; i++) {
		if (i > 0)
			putc(',', to);
		put_place(to, &report->places[i]);
	}
	fputs("]}\n", to);
	return flush(to, &text);
}
