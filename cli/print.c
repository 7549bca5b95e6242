/* SPDX-License-Identifier: MIT */
#include "print.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *beginning = "fid";

static void (*before_messages)(void *context);
static void *before_context;

void print_before_messages(void (*before)(void *context), void *context)
{
	before_messages = before;
	before_context = context;
}

void print_begin_with(const char *words)
{
	beginning = words;
}

static bool write_all(int fd, const char *bytes, size_t count)
{
	while (count > 0) {
		ssize_t wrote = write(fd, bytes, count);

		if (wrote < 0 && errno == EINTR)
			continue;
		/* Somebody else's O_NONBLOCK on a shared terminal must not cut a message. */
		if (wrote < 0 && errno == EAGAIN &&
		    poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1) >= 0)
			continue;
		if (wrote < 0)
			return false;
		bytes += wrote;
		count -= (size_t)wrote;
	}
	return true;
}

/* A message leaves in one write, so that messages of several processes do not interleave. */
static void say(const char *kind, const char *format, va_list arguments)
{
	char line[8192];
	size_t end = sizeof(line) - 2;
	int length = snprintf(line, end, "%s: %s", beginning, kind);

	length += vsnprintf(line + length, end - (size_t)length, format, arguments);
	if ((size_t)length >= end)
		length = (int)end - 1;
	line[length++] = '\n';
	if (before_messages)
		before_messages(before_context);
	(void)write_all(STDERR_FILENO, line, (size_t)length);
}

void print_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say("", format, arguments);
	va_end(arguments);
}

void print_hint(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say("hint: ", format, arguments);
	va_end(arguments);
}

/* What to try, by error. Side FID_SIDE_NONE: true of every side. The first match counts. */
static const struct {
	int error;
	enum fid_side side;
	const char *hint;
} hints[] = {
	{ENOSPC, FID_SIDE_SINK, "make room on the sink's file system, or choose another sink"},
	{EDQUOT, FID_SIDE_SINK, "your quota on the sink's file system is used up"},
	{EFBIG, FID_SIDE_SINK,
	 "the file would pass a limit: see 'ulimit -f', or the file system's largest file"},
	{EROFS, FID_SIDE_SINK, "that file system is mounted read-only"},
	{ETXTBSY, FID_SIDE_SINK, "the sink is a program that runs: remove it first"},
	{EPIPE, FID_SIDE_SINK, "whoever read the sink stopped before the end"},
	{ECONNRESET, FID_SIDE_NONE, "the other end dropped the connection; ask it why"},
	{ECONNREFUSED, FID_SIDE_NONE, "nobody listens there: start the listening side first"},
	{EHOSTUNREACH, FID_SIDE_NONE, "no way to that host: check the address and the network"},
	{ENETUNREACH, FID_SIDE_NONE, "no way to that network: check the address"},
	{ETIMEDOUT, FID_SIDE_NONE, "the other end does not answer: check address and firewall"},
	{EADDRINUSE, FID_SIDE_NONE,
	 "somebody listens there already: choose another address, or see 'ss -lntxp'"},
	{EADDRNOTAVAIL, FID_SIDE_NONE, "that is no address of this machine"},
	{EACCES, FID_SIDE_NONE,
	 "check the permissions of the name and of the folders above it"},
	{EPERM, FID_SIDE_NONE,
	 "a sandbox, an attribute (lsattr) or a missing privilege forbids it"},
	{ENOENT, FID_SIDE_SINK, "the folder of the sink must exist"},
	{ENXIO, FID_SIDE_NONE, "if that is a unix socket, write unix:PATH"},
	{EISDIR, FID_SIDE_NONE, "name a file in it"},
	{EBADF, FID_SIDE_SOURCE, "the descriptor is closed, or not open for reading"},
	{EBADF, FID_SIDE_SINK, "the descriptor is closed, or not open for writing"},
	{ESPIPE, FID_SIDE_SOURCE, "--offset wants a source that can seek, such as a file"},
	{EOPNOTSUPP, FID_SIDE_NONE,
	 "allow more ways with --route, or none at all to allow all"},
	{EMFILE, FID_SIDE_NONE, "this process may open no more files: see 'ulimit -n'"},
	{EAGAIN, FID_SIDE_FID, "no thread was to be had: see 'ulimit -u' and 'ulimit -v'"},
	{EIO, FID_SIDE_NONE, "the device or the file system failed: see 'dmesg'"},
};

void print_hint_for(int error, enum fid_side side)
{
	error = abs(error);
	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
		if (hints[i].error != error)
			continue;
		if (hints[i].side != FID_SIDE_NONE && hints[i].side != side)
			continue;
		print_hint("%s", hints[i].hint);
		return;
	}
}

void print_failure(const char *name, enum fid_side side, int error, const char *call)
{
	char shown[512];

	print_error("%s (%s): %s%s%s", print_name(shown, sizeof(shown), name),
		    fid_side_name(side), strerror(abs(error)), call ? " while in " : "",
		    call ? call : "");
	print_hint_for(error, side);
}

const char *print_account(char *buffer, size_t capacity, const struct fid_receipt *receipt)
{
	int length = snprintf(buffer, capacity, "%" PRIu64 " byte%s delivered",
			      receipt->bytes_out, receipt->bytes_out == 1 ? "" : "s");

	if (receipt->bytes_held > 0 && (size_t)length < capacity)
		snprintf(buffer + length, capacity - (size_t)length,
			 ", %" PRIu64 " byte%s read and could not be delivered",
			 receipt->bytes_held, receipt->bytes_held == 1 ? " was" : "s were");
	return buffer;
}

void print_end(const char *who, int fd, const struct fid_receipt *receipt, int error)
{
	enum fid_call call = (enum fid_call)receipt->error_call;
	char moved[128];

	print_error("%s: %s%s%s; %s", who, strerror(abs(error)), call ? " while in " : "",
		    call ? fid_call_name(call) : "",
		    print_account(moved, sizeof(moved), receipt));
	if (error == -EINVAL && (fcntl(fd, F_GETFL) & O_DIRECT))
		print_hint(
			"it was opened with O_DIRECT, which wants aligned sizes and offsets");
	else
		print_hint_for(error, (enum fid_side)receipt->error_side);
}

bool print_text(int fd, const char *text)
{
	if (write_all(fd, text, strlen(text)))
		return true;
	if (fd != STDERR_FILENO)
		print_error("cannot print: %s", strerror(errno));
	return false;
}

bool print_version(void)
{
	char line[64];

	snprintf(line, sizeof(line), "fid %s\n", fid_version());
	return print_text(STDOUT_FILENO, line);
}

/* U+0080 to U+009F are controls as well: U+009B begins an escape sequence in UTF-8. */
static bool is_control(const char *name, size_t i)
{
	unsigned char c = (unsigned char)name[i];

	if (c == 0xc2)
		return ((unsigned char)name[i + 1] & 0xe0) == 0x80;
	if (i > 0 && (unsigned char)name[i - 1] == 0xc2)
		return (c & 0xe0) == 0x80;
	return c < ' ' || c == 0x7f;
}

const char *print_name(char *buffer, size_t capacity, const char *name)
{
	size_t i;

	/* A name comes from anywhere and must not reach the terminal as an escape sequence. */
	for (i = 0; name[i] && i + 1 < capacity; i++)
		buffer[i] = is_control(name, i) ? '?' : name[i];
	buffer[i] = '\0';
	return buffer;
}

const char *print_size(char buffer[PRINT_SIZE], uint64_t bytes)
{
	static const char units[] = "BKMGTPE";
	double value = (double)bytes;
	int unit = 0;

	/* 1023.96 would be rounded to "1024.0": it is already one of the next unit. */
	while (value >= (unit ? 1023.95 : 1024)) {
		value /= 1024;
		unit++;
	}
	if (unit == 0)
		snprintf(buffer, PRINT_SIZE, "%u B", (unsigned)bytes);
	else
		snprintf(buffer, PRINT_SIZE, value < 99.95 ? "%.1f %ciB" : "%.0f %ciB", value,
			 units[unit]);
	return buffer;
}

const char *print_duration(char buffer[PRINT_SIZE], uint64_t seconds)
{
	unsigned long hours = (unsigned long)(seconds / 3600);
	unsigned minutes = (unsigned)(seconds / 60 % 60), rest = (unsigned)(seconds % 60);

	if (hours > 999)
		snprintf(buffer, PRINT_SIZE, "-:--");
	else if (hours > 0)
		snprintf(buffer, PRINT_SIZE, "%lu:%02u:%02u", hours, minutes, rest);
	else
		snprintf(buffer, PRINT_SIZE, "%u:%02u", minutes, rest);
	return buffer;
}

void receipt_add_demotions(struct fid_receipt *total, const struct fid_receipt *part,
			   uint64_t before)
{
	for (uint32_t i = 0; i < part->demotions; i++) {
		struct fid_demotion *next;

		/* The first ones tell why; a hundred sources would repeat them. */
		if (total->demotions == FID_DEMOTIONS_MAX)
			return;
		next = &total->demotion[total->demotions++];
		*next = part->demotion[i];
		next->at_bytes += before;
	}
}

void receipt_add(struct fid_receipt *total, unsigned count, const struct fid_receipt *part)
{
	bool empty = total->bytes_out == 0;
	uint32_t best = 0;

	if (count == 0) {
		*total = *part;
		return;
	}
	receipt_add_demotions(total, part, total->bytes_in);
	total->bytes_in += part->bytes_in;
	total->bytes_out += part->bytes_out;
	total->bytes_held += part->bytes_held;
	total->bytes_salvaged += part->bytes_salvaged;
	for (int i = 0; i < FID_CLASSES; i++)
		total->by_class[i] += part->by_class[i];
	for (int i = 0; i < FID_METHODS; i++) {
		total->by_method[i] += part->by_method[i];
		total->calls[i] += part->calls[i];
		if (total->by_method[i] > total->by_method[best])
			best = (uint32_t)i;
	}
	/* The way that moved the most bytes of all is named, and the reason with it. */
	if (part->route == best && (empty || total->route != best)) {
		total->route = part->route;
		total->reason = part->reason;
	}
	total->waits += part->waits;
	total->elapsed_ns += part->elapsed_ns;
	if (part->pipe_bytes > total->pipe_bytes)
		total->pipe_bytes = part->pipe_bytes;
	if (part->pipe_bytes_asked > total->pipe_bytes_asked)
		total->pipe_bytes_asked = part->pipe_bytes_asked;
	if (!total->error) {
		total->error = part->error;
		total->error_side = part->error_side;
		total->error_call = part->error_call;
	}
	/* One changed source changes the whole; "not seen to" needs a look at every one. */
	if (total->source_changed != 1 && part->source_changed != 0)
		total->source_changed = part->source_changed;
	total->require_unmet |= part->require_unmet;
	total->stable &= part->stable;
}

char *receipt_text(enum receipt_form form, const struct fid_receipt *receipt)
{
	int (*describe)(const struct fid_receipt *, char *, size_t) =
		form == RECEIPT_JSON ? fid_receipt_json : fid_receipt_text;
	size_t length = (size_t)describe(receipt, NULL, 0);
	char *text = malloc(length + 2);

	if (text)
		describe(receipt, text, length + 1);
	return text;
}

bool receipt_print(int fd, enum receipt_form form, const struct fid_receipt *receipt,
		   const struct receipt_notes *notes)
{
	static const struct receipt_notes none;
	char *text = receipt_text(form, receipt), *line = NULL;
	bool json = form == RECEIPT_JSON, printed;
	int length;

	if (!notes)
		notes = &none;
	/* They go before what ends the text, a stop or a brace. */
	length = text ? (int)strlen(text) - 1 : 0;
	if (!text ||
	    asprintf(&line, "%s%s%.*s%s%s%s%s\n", json || !notes->so_far ? "" : beginning,
		     json || !notes->so_far ? "" : ": so far: ", length, text,
		     json && notes->so_far ? ",\"so_far\":true" : "",
		     json ? notes->members : notes->words, text + length,
		     json ? "" : notes->sentence) < 0) {
		print_error("no memory for the receipt");
		free(text);
		return false;
	}
	printed = print_text(fd, line);
	free(line);
	free(text);
	return printed;
}

/* The length of the UTF-8 character that text begins with, 0 when that is none. */
static size_t character(const unsigned char *text)
{
	/* After some first bytes the second one has a smaller range: nothing is written twice.
	 */
	unsigned char low = *text == 0xe0 ? 0xa0 : *text == 0xf0 ? 0x90 : 0x80;
	unsigned char high = *text == 0xed ? 0x9f : *text == 0xf4 ? 0x8f : 0xbf;
	size_t length = *text < 0x80 ? 1 : *text < 0xe0 ? 2 : *text < 0xf0 ? 3 : 4;

	if (length == 1)
		return 1;
	if (*text < 0xc2 || *text > 0xf4 || text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

void print_json_string(FILE *to, const char *text)
{
	if (!text) {
		fputs("null", to);
		return;
	}
	putc('"', to);
	while (*text) {
		unsigned char c = (unsigned char)*text;
		size_t length = character((const unsigned char *)text);

		if (length == 0)
			fputs("\\ufffd", to);
		else if (c < ' ')
			fprintf(to, "\\u%04x", c);
		else
			fprintf(to, "%s%.*s", c == '"' || c == '\\' ? "\\" : "", (int)length,
				text);
		text += length ? length : 1;
	}
	putc('"', to);
}

bool receipt_put(FILE *to, enum receipt_form form, const char *name, enum fid_side side,
		 const struct fid_receipt *receipt)
{
	char *text = receipt_text(form, receipt), shown[512];

	if (!text)
		return false;
	if (form == RECEIPT_JSON) {
		fputs("{\"name\":", to);
		print_json_string(to, name);
		/* The object goes on with its own keys. */
		fprintf(to, ",%s", text + 1);
	} else {
		fprintf(to, "%s (%s): %s\n", print_name(shown, sizeof(shown), name),
			fid_side_name(side), text);
	}
	free(text);
	return true;
}

/* Letters to insert, delete or change until one word is the other. */
static size_t distance(const char *from, const char *to)
{
	size_t row[32], length = strlen(to);

	if (length >= 32 || strlen(from) >= 32)
		return 32;
	for (size_t j = 0; j <= length; j++)
		row[j] = j;
	for (size_t i = 0; from[i]; i++) {
		size_t corner = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < length; j++) {
			size_t best = corner + (from[i] != to[j]);

			corner = row[j + 1];
			if (corner + 1 < best)
				best = corner + 1;
			if (row[j] + 1 < best)
				best = row[j] + 1;
			row[j + 1] = best;
		}
	}
	return row[length];
}

const char *nearest_word(const char *word, const char *const *words, size_t count)
{
	const char *nearest = NULL;
	size_t best = 3;

	for (size_t i = 0; i < count; i++) {
		size_t far = distance(word, words[i]);

		/* A word of which no letter is right is no slip of the finger. */
		if (far < best && far < strlen(words[i])) {
			nearest = words[i];
			best = far;
		}
	}
	return nearest;
}
