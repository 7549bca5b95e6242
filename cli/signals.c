/* SPDX-License-Identifier: MIT */
#include "signals.h"

#include "clock.h"

#include <errno.h>
#include <stddef.h>
#include <sys/time.h>
#include <unistd.h>

static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
#define ENDS (sizeof(ends) / sizeof(ends[0]))
static bool catching[ENDS];
static volatile sig_atomic_t caught, asked;
/* Whether SIGALRM has a handler; and whether it comes anyway. */
static volatile sig_atomic_t has_alarm, ticks;
static bool kept;

static bool takes_reports;
static void (*report_function)(void *context);
static void *report_context;

/*
 * A signal between the look at the note and a call that sleeps interrupts nothing. So from the
 * first one on there is another every second, until somebody has looked.
 */
static void note(int signal)
{
	int error = errno;

	if (signal == SIGUSR1)
		asked = 1;
	else if (signal != SIGALRM)
		caught = signal;
	if (has_alarm && (caught || (asked && !ticks)))
		alarm(1);
	errno = error;
}

/* Whoever started fid may have held back all signals: then no timer would end a sleep. */
static void let_in(int signal)
{
	sigset_t one;

	sigemptyset(&one);
	sigaddset(&one, signal);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
}

/* restart: calls go on by themselves after SIGUSR1, as connect(2) can in no other way. */
static void catch_reports(bool restart)
{
	const struct sigaction action = {
		.sa_handler = note,
		.sa_flags = restart ? SA_RESTART : 0,
	};

	if (takes_reports)
		sigaction(SIGUSR1, &action, NULL);
}

void signals_take_reports(void)
{
	takes_reports = true;
	catch_reports(true);
	let_in(SIGUSR1);
}

void signals_take_limits(void)
{
	signal(SIGXFSZ, SIG_IGN);
}

void signals_report_by(void (*report)(void *context), void *context)
{
	report_function = report;
	report_context = context;
}

void signals_look(void)
{
	if (!asked || !report_function)
		return;
	asked = 0;
	report_function(report_context);
}

static void set_timer(unsigned tick_ms)
{
	const suseconds_t microseconds = (suseconds_t)tick_ms * 1000;
	const struct itimerval timer = {
		.it_interval = {.tv_usec = microseconds},
		.it_value = {.tv_usec = microseconds},
	};

	setitimer(ITIMER_REAL, &timer, NULL);
}

void signals_catch(unsigned tick_ms)
{
	/* No SA_RESTART: a call that sleeps has to come back. */
	struct sigaction action = {.sa_handler = note}, before;

	sigaction(SIGALRM, &action, NULL);
	let_in(SIGALRM);
	has_alarm = 1;
	ticks = tick_ms > 0;
	if (tick_ms > 0)
		set_timer(tick_ms);
	catch_reports(false);

	for (size_t i = 0; i < ENDS; i++) {
		/* nohup(1) and a shell's background jobs count on what they ignored. */
		if (sigaction(ends[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
			catching[i] = sigaction(ends[i], &action, NULL) == 0;
	}
}

void signals_keep(void)
{
	kept = true;
}

bool signals_kept(void)
{
	return kept;
}

void signals_let_go(void)
{
	if (!kept)
		return;
	kept = false;
	signals_release();
}

void signals_release(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	catch_reports(true);
	if (kept) {
		set_timer(0);
		return;
	}
	/* From here on no handler sets an alarm, which nothing would catch. */
	has_alarm = 0;
	set_timer(0);
	sigaction(SIGALRM, &action, NULL);
	for (size_t i = 0; i < ENDS; i++) {
		if (catching[i])
			sigaction(ends[i], &action, NULL);
		catching[i] = false;
	}
}

int signals_caught(void)
{
	return caught;
}

int signals_poll(struct pollfd *fds, nfds_t count, uint64_t timeout_ns)
{
	struct timespec timeout = {
		.tv_sec = (time_t)(timeout_ns / SECOND_NS),
		.tv_nsec = (long)(timeout_ns % SECOND_NS),
	};
	sigset_t held, before;
	int result = -EINTR;

	sigemptyset(&held);
	for (size_t i = 0; i < ENDS; i++)
		sigaddset(&held, ends[i]);
	sigprocmask(SIG_BLOCK, &held, &before);
	/* A signal cannot fall between the look at the note and the sleep. */
	if (!caught) {
		result = ppoll(fds, count, timeout_ns == UINT64_MAX ? NULL : &timeout, &before);
		result = result < 0 ? -errno : result;
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return result;
}

int signals_wait(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	int result;

	do
		result = signals_poll(&ready, 1, UINT64_MAX);
	while (result == -EINTR && !caught);
	return result < 0 ? result : 0;
}

bool signals_ignored(int signal)
{
	struct sigaction now;

	return sigaction(signal, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

void signals_die(int signal)
{
	const struct sigaction action = {.sa_handler = SIG_DFL};

	if (signals_ignored(signal))
		return;
	sigaction(signal, &action, NULL);
	raise(signal);
	let_in(signal);
}
