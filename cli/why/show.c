/* SPDX-License-Identifier: MIT */
#include "why.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	COLUMNS = 100,
	METHOD_WIDTH = 17, /* "copy_file_range" and two spaces */
	CLASS_WIDTH = 14,  /* "by reference" and two spaces */
	END_INDENT = 8,
};

/* The calls whose refusal changes the choice. */
struct fact {
	const char *name;
	int32_t refusal;
};

#define FACTS 4

static void choose_facts(const struct fid_facts *facts, struct fact ret_facts[FACTS])
{
	ret_facts[0] = (struct fact){"splice", facts->splice};
	ret_facts[1] = (struct fact){"sendfile", facts->sendfile};
	ret_facts[2] = (struct fact){"copy_file_range", facts->copy_file_range};
	ret_facts[3] = (struct fact){"pipe", facts->pipe};
}

/* "", or what stands between two of them: "; " */
static void put_condition(FILE *to, const struct prediction *prediction)
{
	const struct fid_rung *rung = prediction->ladder.rung;
	uint32_t last = why_last_rung(prediction), i;

	if (prediction->ladder.start_small) {
		fprintf(to, "it starts as a copy, and takes %s when the stream is fast",
			fid_method_name((enum fid_method)rung[0].method));
		return;
	}
	fprintf(to, "%s is tried first", fid_method_name((enum fid_method)rung[0].method));
	for (i = 0; i < last; i++)
		fprintf(to, "; %s, then %s", prediction->unless[i],
			fid_method_name((enum fid_method)rung[i + 1].method));
	if (prediction->unless[i])
		fprintf(to, "; %s, then nothing is moved", prediction->unless[i]);
}

/* On what the first way depends; NULL: on nothing. The caller frees it. */
static char *condition(const struct prediction *prediction)
{
	char *text = NULL;
	size_t length;
	FILE *to;

	if (!prediction->ladder.count ||
	    (!prediction->ladder.start_small && !prediction->unless[0]))
		return NULL;
	to = open_memstream(&text, &length);
	if (!to)
		return NULL;
	put_condition(to, prediction);
	fclose(to);
	return text;
}

/* ---- For people ---- */

/* Puts text, broken between words where the line is full; the column is where it stands. */
static void put_text(FILE *to, size_t column, size_t indent, const char *text)
{
	while (*text) {
		size_t word = strcspn(text, " ");

		if (column > indent && column + 1 + word > COLUMNS) {
			fprintf(to, "\n%*s", (int)indent, "");
			column = indent;
		} else if (column > indent) {
			putc(' ', to);
			column++;
		}
		fprintf(to, "%.*s", (int)word, text);
		column += word;
		text += word;
		text += strspn(text, " ");
	}
	putc('\n', to);
}

static const char *class_words(uint8_t class_)
{
	static const char *const words[FID_CLASSES] = {"by reference", "kernel copy",
						       "user copy"};

	return class_ < FID_CLASSES ? words[class_] : fid_class_name(class_);
}

static void put_size(FILE *to, const char *before, uint64_t bytes)
{
	char size[PRINT_SIZE];

	fprintf(to, "%s%s", before, print_size(size, bytes));
}

static void put_file_facts(FILE *to, const struct look *look)
{
	const struct fid_end *end = &look->end;
	bool is_sink = look->endpoint->side == FID_SIDE_SINK;

	if (!look->exists)
		fputs(", to be made", to);
	else if (is_sink && look->endpoint->kind == ENDPOINT_PATH && !end->append)
		fputs(", which would be emptied", to);
	else
		put_size(to, " of ", end->size);
	if (end->position)
		fprintf(to, ", at %" PRIu64, end->position);
	if (!is_sink && end->page_cache)
		fputs("; splice passes on its pages by reference", to);
	if (end->plain)
		fputs("; its file system has no clones", to);
	if (end->remote)
		fputs("; a process or another machine answers for it", to);
	if (!end->page_cache && !end->plain && !end->remote)
		fputs("; of a file system that is not known", to);
}

static void put_facts(FILE *to, const struct look *look)
{
	static const char *const words[FID_KINDS] = {
		[FID_KIND_UNKNOWN] = "something of no known kind",
		[FID_KIND_REGULAR] = "a file",
		[FID_KIND_PIPE] = "a pipe",
		[FID_KIND_TCP] = "a TCP connection",
		[FID_KIND_UNIX] = "a unix stream socket",
		[FID_KIND_SOCKET] = "a socket of another kind",
		[FID_KIND_TERMINAL] = "a terminal",
		[FID_KIND_MEMORY] = "a device of memory",
		[FID_KIND_CHARACTER] = "a character device",
		[FID_KIND_BLOCK] = "a block device",
		[FID_KIND_DIRECTORY] = "a directory",
	};
	const struct fid_end *end = &look->end;
	bool is_stream = end->kind == FID_KIND_PIPE || end->kind == FID_KIND_TCP ||
			 end->kind == FID_KIND_UNIX || end->kind == FID_KIND_SOCKET ||
			 end->kind == FID_KIND_TERMINAL;

	fputs(words[end->kind < FID_KINDS ? end->kind : FID_KIND_UNKNOWN], to);
	if (end->kind == FID_KIND_REGULAR)
		put_file_facts(to, look);
	else if (!look->exists)
		fputs(", to be made", to);
	if (look->pipe_bytes)
		put_size(to, " of ", look->pipe_bytes);
	if (is_stream)
		fputs(end->nonblocking ? "; its calls never sleep" : "; its calls may sleep",
		      to);
	if (end->append)
		fputs("; O_APPEND", to);
	if (end->direct)
		fputs(end->kind == FID_KIND_PIPE ? "; O_DIRECT: packets" : "; O_DIRECT", to);
	if (end->is_null)
		fputs("; what it gets is dropped", to);
	if (look->forbidden)
		fprintf(to, "; opening it would fail for this user: %s",
			strerror(look->forbidden));
}

static bool put_end(FILE *to, const char *title, const struct look *look)
{
	char shown[COLUMNS - END_INDENT], *text = NULL;
	size_t length;
	FILE *facts = open_memstream(&text, &length);

	if (!facts)
		return false;
	put_facts(facts, look);
	fclose(facts);
	print_name(shown, sizeof(shown), look->endpoint->name);
	fprintf(to, "%-*s%s\n%*s", END_INDENT, title, shown, END_INDENT, "");
	put_text(to, END_INDENT, END_INDENT, text);
	free(text);
	return true;
}

static void put_ladder(FILE *to, const struct prediction *prediction)
{
	if (prediction->ladder.count)
		fputs("\ntried in this order\n", to);
	for (uint32_t i = 0; i < prediction->ladder.count; i++) {
		const struct fid_rung *rung = &prediction->ladder.rung[i];
		size_t indent = 2 + METHOD_WIDTH + CLASS_WIDTH;

		fprintf(to, "  %-*s%-*s", METHOD_WIDTH,
			fid_method_name((enum fid_method)rung->method), CLASS_WIDTH,
			class_words(rung->class_));
		put_text(to, indent, indent, rung->reason);
	}
}

static void put_left_out(FILE *to, const struct prediction *prediction)
{
	bool titled = false;

	for (int method = 0; method < FID_ROUTES; method++) {
		if (!prediction->left_out[method])
			continue;
		if (!titled)
			fputs("\nleft out\n", to);
		titled = true;
		fprintf(to, "  %-*s", METHOD_WIDTH, fid_method_name((enum fid_method)method));
		put_text(to, 2 + METHOD_WIDTH, 2 + METHOD_WIDTH, prediction->left_out[method]);
	}
}

/* What this kernel refuses; and nothing where it refuses none of the calls that count here. */
static void put_kernel(FILE *to, const struct prediction *prediction)
{
	struct fact facts[FACTS];
	bool titled = false;

	choose_facts(&prediction->facts, facts);
	for (int i = 0; i < FACTS; i++) {
		if (!facts[i].refusal)
			continue;
		if (!titled)
			fputs("\nrefused by this kernel or container\n", to);
		titled = true;
		fprintf(to, "  %-*s%s\n", METHOD_WIDTH, facts[i].name,
			fid_error_name(facts[i].refusal));
	}
}

static void put_trial(FILE *to, const struct why *why)
{
	const struct trial *trial = &why->trial;
	const struct fid_receipt *receipt = &trial->receipt;
	char *text = receipt_text(RECEIPT_TEXT, receipt);

	fprintf(to, "\ntried   %s\n", trial->agrees ? "as predicted" : "NOT as predicted");
	fprintf(to, "%*ssource: %s\n%*ssink: %s\n%*s", END_INDENT, "", trial->source,
		END_INDENT, "", trial->sink, END_INDENT, "");
	put_text(to, END_INDENT, END_INDENT, text ? text : "");
	free(text);
}

static bool is_bold(void)
{
	const char *terminal = getenv("TERM"), *no = getenv("NO_COLOR");

	return isatty(STDOUT_FILENO) && !(no && *no) && terminal &&
	       strcmp(terminal, "dumb") != 0;
}

static void put_answer(FILE *to, const struct prediction *prediction)
{
	const struct fid_rung *rung = prediction->ladder.rung;
	char answer[256], *depends;
	bool bold = is_bold();

	if (prediction->ladder.count)
		snprintf(answer, sizeof(answer), "%s, %s: %s",
			 fid_method_name((enum fid_method)rung->method),
			 class_words(rung->class_), rung->reason);
	else
		snprintf(answer, sizeof(answer), "nothing: %s",
			 prediction->nothing ? prediction->nothing : "no way is left");
	fputs(bold ? "\033[1m" : "", to);
	put_text(to, 0, 0, answer);
	fputs(bold ? "\033[0m" : "", to);
	depends = condition(prediction);
	if (depends)
		put_text(to, 0, 0, depends);
	free(depends);
}

/* Prints what was put, which is freed. Returns false, after a message, when it cannot. */
static bool finish(FILE *to, char **text)
{
	bool whole = to && !ferror(to);
	bool printed;

	if (to && fclose(to) != 0)
		whole = false;
	if (!whole)
		print_error("no memory for the text");
	printed = whole && print_text(STDOUT_FILENO, *text);
	free(*text);
	return printed;
}

bool why_show(const struct why *why)
{
	char *text = NULL;
	size_t length;
	FILE *to = open_memstream(&text, &length);

	if (to) {
		put_answer(to, &why->prediction);
		putc('\n', to);
		put_end(to, "source", &why->source);
		put_end(to, "sink", &why->sink);
		put_ladder(to, &why->prediction);
		put_left_out(to, &why->prediction);
		put_kernel(to, &why->prediction);
		if (why->tried)
			put_trial(to, why);
	}
	return finish(to, &text);
}

/* ---- For programs ---- */

static void put_key(FILE *to, const char *key, const char *text)
{
	fprintf(to, ",\"%s\":", key);
	print_json_string(to, text);
}

static void put_flag(FILE *to, const char *key, bool flag)
{
	fprintf(to, ",\"%s\":%s", key, flag ? "true" : "false");
}

/* A number, or null where it means nothing. */
static void put_number(FILE *to, const char *key, bool known, uint64_t number)
{
	fprintf(to, ",\"%s\":", key);
	if (known)
		fprintf(to, "%" PRIu64, number);
	else
		fputs("null", to);
}

static void put_json_end(FILE *to, const struct look *look)
{
	const struct fid_end *end = &look->end;
	bool is_file = end->kind == FID_KIND_REGULAR;

	fputs("{\"name\":", to);
	print_json_string(to, look->endpoint->name);
	put_key(to, "kind", fid_kind_name((enum fid_kind)end->kind));
	put_flag(to, "exists", look->exists);
	put_key(to, "forbidden", look->forbidden ? fid_error_name(look->forbidden) : NULL);
	put_flag(to, "append", end->append);
	put_flag(to, "direct", end->direct);
	put_flag(to, "nonblocking", end->nonblocking);
	put_flag(to, "remote", end->remote);
	put_flag(to, "plain", end->plain);
	put_flag(to, "page_cache", end->page_cache);
	put_number(to, "bytes", is_file, end->size);
	put_number(to, "position", is_file, end->position);
	put_number(to, "pipe_bytes", look->pipe_bytes > 0, look->pipe_bytes);
	putc('}', to);
}

static void put_json_ladder(FILE *to, const struct fid_ladder *ladder)
{
	fputs(",\"ladder\":[", to);
	for (uint32_t i = 0; i < ladder->count; i++) {
		const struct fid_rung *rung = &ladder->rung[i];

		fputs(i ? ",{" : "{", to);
		fprintf(to, "\"method\":\"%s\",\"class\":\"%s\"",
			fid_method_name((enum fid_method)rung->method),
			fid_class_name((enum fid_class)rung->class_));
		put_key(to, "reason", rung->reason);
		put_number(to, "chunk_bytes", rung->chunk_bytes > 0, rung->chunk_bytes);
		put_number(to, "pipe_bytes", rung->pipe_bytes > 0, rung->pipe_bytes);
		put_flag(to, "stable", rung->stable);
		putc('}', to);
	}
	putc(']', to);
}

static void put_json_left_out(FILE *to, const struct prediction *prediction)
{
	const char *comma = "";

	fputs(",\"left_out\":[", to);
	for (int method = 0; method < FID_ROUTES; method++) {
		if (!prediction->left_out[method])
			continue;
		fprintf(to, "%s{\"method\":\"%s\"", comma,
			fid_method_name((enum fid_method)method));
		put_key(to, "why", prediction->left_out[method]);
		putc('}', to);
		comma = ",";
	}
	putc(']', to);
}

static void put_json_kernel(FILE *to, const struct prediction *prediction)
{
	struct fact facts[FACTS];

	choose_facts(&prediction->facts, facts);
	fputs(",\"refused\":{", to);
	for (int i = 0; i < FACTS; i++) {
		fprintf(to, "%s\"%s\":", i ? "," : "", facts[i].name);
		print_json_string(to,
				  facts[i].refusal ? fid_error_name(facts[i].refusal) : NULL);
	}
	putc('}', to);
}

static void put_json_answer(FILE *to, const struct prediction *prediction)
{
	const struct fid_ladder *ladder = &prediction->ladder;
	const struct fid_rung *rung = ladder->rung;
	bool any = ladder->count > 0;
	char *depends = condition(prediction);

	put_key(to, "route", any ? fid_method_name((enum fid_method)rung->method) : NULL);
	put_key(to, "class", any ? fid_class_name((enum fid_class)rung->class_) : NULL);
	put_key(to, "reason", any ? rung->reason : prediction->nothing);
	put_key(to, "depends", depends);
	put_flag(to, "starts_as_copy", ladder->start_small);
	put_number(to, "bytes_expected", prediction->bytes_expected != UINT64_MAX,
		   prediction->bytes_expected);
	free(depends);
}

static void put_json_trial(FILE *to, const struct trial *trial)
{
	char *text = receipt_text(RECEIPT_JSON, &trial->receipt);

	fprintf(to, ",\"try\":{\"agrees\":%s", trial->agrees ? "true" : "false");
	put_key(to, "source", trial->source);
	put_key(to, "sink", trial->sink);
	/* The receipt's own keys follow, and its brace. */
	fprintf(to, ",%s", text ? text + 1 : "\"error\":\"ENOMEM\"}");
	free(text);
}

bool why_show_json(const struct why *why)
{
	char *text = NULL;
	size_t length;
	FILE *to = open_memstream(&text, &length);

	if (to) {
		fputs("{\"source\":", to);
		put_json_end(to, &why->source);
		fputs(",\"sink\":", to);
		put_json_end(to, &why->sink);
		put_json_ladder(to, &why->prediction.ladder);
		put_json_left_out(to, &why->prediction);
		put_json_kernel(to, &why->prediction);
		put_json_answer(to, &why->prediction);
		if (why->tried)
			put_json_trial(to, &why->trial);
		else
			fputs(",\"try\":null", to);
		fputs("}\n", to);
	}
	return finish(to, &text);
}
