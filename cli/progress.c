/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include "clock.h"
#include "print.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TICK_NS (SECOND_NS / 5)
/* Without a terminal each tick is a line of a log. */
#define LINE_NS SECOND_NS

#define COLUMNS_MAX 256
/* Narrower than this a bar says nothing. */
#define BAR_MIN 6
#define BAR_MAX 60
/* A label has a third of the line at most, and less than this says nothing either. */
#define LABEL_MIN 3

static void clear(void *context)
{
	progress_clear(context);
}

void progress_begin(struct progress *progress, bool asked, const char *label)
{
	*progress = (struct progress){.rate = -1, .label = label};
	progress->terminal = isatty(STDERR_FILENO);
	progress->wanted = asked || progress->terminal;
	if (!progress->wanted)
		return;
	progress->start_ns = progress->seen_ns = clock_ns();
	progress->next_ns = progress->start_ns;
	progress->next_ns += asked && progress->terminal ? TICK_NS : SECOND_NS;
	print_before_messages(clear, progress);
}

bool progress_due(const struct progress *progress)
{
	return progress->wanted && clock_ns() >= progress->next_ns;
}

/* The width is asked for each line, so that no handler for SIGWINCH is needed. */
static size_t columns(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		return 80;
	/* A character in the last column makes many terminals begin a new line. */
	size.ws_col--;
	return size.ws_col < COLUMNS_MAX ? size.ws_col : COLUMNS_MAX;
}

/* Keeps a part of the line if there is room for it. */
static void keep(char *part, size_t *used, size_t width)
{
	if (*used + strlen(part) > width)
		part[0] = '\0';
	*used += strlen(part);
}

/* "LABEL: ". No character has more columns than bytes, and none is cut in two. */
static void begin_with(char part[COLUMNS_MAX], const char *label, size_t width)
{
	size_t length, most = width / 3;

	part[0] = '\0';
	if (!label || most < LABEL_MIN + 2)
		return;
	print_name(part, most - 1, label);
	length = strlen(part);
	while (label[length] && length > 0 && ((unsigned char)label[length] & 0xc0) == 0x80)
		length--;
	if (length > 0)
		strcpy(part + length, ": ");
	else
		part[0] = '\0';
}

/*
 * "LABEL:  1.5 GiB  37% [=====>       ]   512 MiB/s  0:12 left", and less where there is less
 * room: first the bar goes, then the time, the rate, the percentage, the label. line has room
 * for width and a NUL. Returns the length.
 */
static size_t describe(char *line, size_t width, const struct progress *progress,
		       uint64_t bytes, uint64_t total)
{
	uint64_t elapsed_ns = progress->seen_ns - progress->start_ns;
	double rate = progress->rate;
	bool known = total != PROGRESS_UNKNOWN && total > 0 && bytes <= total;
	char label[COLUMNS_MAX], size[32], percent[16] = "", speed[32], time[32];
	char number[PRINT_SIZE];
	size_t used = 0, length, room, full;

	snprintf(size, sizeof(size), "%8s", print_size(number, bytes));
	print_size(number, rate > 0 ? (uint64_t)rate : 0);
	snprintf(speed, sizeof(speed), " %8s/s", number);
	if (known) {
		snprintf(percent, sizeof(percent), " %3u%%",
			 (unsigned)((double)bytes / (double)total * 100));
		if (rate >= 1)
			print_duration(number,
				       (uint64_t)((double)(total - bytes) / rate + 0.5));
		snprintf(time, sizeof(time), "  %s left", rate >= 1 ? number : "-:--");
	} else {
		snprintf(time, sizeof(time), "  %s",
			 print_duration(number, elapsed_ns / SECOND_NS));
	}
	keep(size, &used, width);
	begin_with(label, progress->label, width);
	keep(label, &used, width);
	keep(percent, &used, width);
	keep(speed, &used, width);
	keep(time, &used, width);

	room = width - used;
	if (!known || room < BAR_MIN + 3)
		return (size_t)sprintf(line, "%s%s%s%s%s", label, size, percent, speed, time);
	/* A wide terminal does not need a wider bar. */
	room = (room > BAR_MAX ? BAR_MAX : room) - 3;
	full = (size_t)((double)bytes / (double)total * (double)room);
	length = (size_t)sprintf(line, "%s%s%s [", label, size, percent);
	for (size_t i = 0; i < room; i++)
		line[length++] = i < full ? '=' : i == full ? '>' : ' ';
	return length + (size_t)sprintf(line + length, "]%s%s", speed, time);
}

/* text: a carriage return, the line of so many columns, and room for as many spaces. */
static void put_line(struct progress *progress, char *text, size_t length)
{
	size_t width = columns();

	/* A job in the background has no business on the terminal, and may be stopped for it.
	 */
	if (tcgetpgrp(STDERR_FILENO) != getpgrp())
		return;
	/* A terminal that somebody stopped (Ctrl-S) must not stop the transfer. */
	if (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, 0) != 1)
		return;
	/* Spaces over the rest of the old line: that needs no knowledge of the terminal. */
	for (size_t i = length; i < progress->shown && i < width; i++)
		text[1 + i] = ' ';
	width = progress->shown < width ? progress->shown : width;
	progress->shown = length;
	(void)!write(STDERR_FILENO, text, 1 + (length > width ? length : width));
}

static void show(struct progress *progress, uint64_t bytes, uint64_t total)
{
	char text[2 * COLUMNS_MAX + 128] = "\r";
	size_t length;

	if (!progress->terminal) {
		length = describe(text, 80, progress, bytes, total);
		text[length++] = '\n';
		(void)!write(STDERR_FILENO, text, length);
		return;
	}
	put_line(progress, text, describe(text + 1, columns(), progress, bytes, total));
}

void progress_tick(struct progress *progress, uint64_t bytes, uint64_t total)
{
	uint64_t now = clock_ns();
	double rate;

	if (!progress->wanted || now < progress->next_ns)
		return;
	/* Smoothed over about two seconds, whatever the ticks are. */
	rate = (double)(bytes - progress->seen_bytes) * 1e9 / (double)(now - progress->seen_ns);
	if (progress->rate < 0) {
		progress->rate = rate;
	} else {
		double weight = (double)(now - progress->seen_ns) / 2e9;

		progress->rate += (rate - progress->rate) * (weight < 1 ? weight : 1);
	}
	progress->seen_ns = now;
	progress->seen_bytes = bytes;
	progress->next_ns = now + (progress->terminal ? TICK_NS : LINE_NS);
	show(progress, bytes, total);
}

void progress_say(struct progress *progress, const char *words)
{
	char text[2 * COLUMNS_MAX] = "\r";

	if (!progress->terminal)
		return;
	snprintf(text + 1, columns() + 1, "%s", words);
	put_line(progress, text, strlen(text + 1));
}

void progress_clear(struct progress *progress)
{
	char text[COLUMNS_MAX + 2];
	size_t width;

	if (!progress->shown || tcgetpgrp(STDERR_FILENO) != getpgrp())
		return;
	width = columns();
	width = progress->shown < width ? progress->shown : width;
	text[0] = text[width + 1] = '\r';
	memset(text + 1, ' ', width);
	(void)!write(STDERR_FILENO, text, width + 2);
	progress->shown = 0;
}

void progress_end(struct progress *progress, uint64_t bytes)
{
	uint64_t now;

	progress_clear(progress);
	print_before_messages(NULL, NULL);
	if (!progress->wanted || progress->terminal)
		return;
	now = clock_ns();
	/* The last line tells the whole: all bytes, and the mean rate. */
	progress->seen_ns = now;
	if (now > progress->start_ns)
		progress->rate = (double)bytes * 1e9 / (double)(now - progress->start_ns);
	show(progress, bytes, PROGRESS_UNKNOWN);
}
