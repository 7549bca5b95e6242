/* SPDX-License-Identifier: MIT */
/*
 * SIGINT, SIGTERM and SIGHUP end a transfer in order, and then this process: by that same
 * signal, so that a shell sees what it would see of cp(1). SIGUSR1 asks how far it is.
 */
#ifndef FID_CLI_SIGNALS_H
#define FID_CLI_SIGNALS_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * From now on SIGUSR1 is noted, and does not end this process. That is so as well where it was
 * ignored or blocked at start: whoever has it ignored, as "trap '' USR1" does, may send it from
 * the first moment on, and else there is one in which it kills.
 */
void signals_take_reports(void);

/* What such a signal asks for; signals_look() calls it, outside of any handler. NULL: later. */
void signals_report_by(void (*report)(void *context), void *context);
void signals_look(void);

/*
 * From now on a file that would pass a limit (ulimit -f) is an error, EFBIG, of which a receipt
 * can tell, and does not end this process.
 */
void signals_take_limits(void);

/*
 * From now on the signals that end a transfer are only noted. One that was ignored at start
 * stays ignored. A call that sleeps comes back with EINTR, also when the signal came just
 * before it (within a second), and with a tick anyway after so many milliseconds, again and
 * again; at most 999, 0: never.
 */
#define SIGNALS_TICK_MS 200
void signals_catch(unsigned tick_ms);

/* They end the process at once again, as at its start. */
void signals_release(void);

/*
 * What was caught stays so after signals_release(), for what does not sleep: between two
 * sources a signal ends the transfer in order, too. Until signals_let_go().
 */
void signals_keep(void);
bool signals_kept(void);
void signals_let_go(void);

/* The signal that was noted, or 0. */
int signals_caught(void);

/*
 * poll(2) for at most so long, UINT64_MAX for ever. Returns what it does, or a negative errno
 * value: -EINTR for any signal, and for one of those above also when it came just before.
 */
int signals_poll(struct pollfd *fds, nfds_t count, uint64_t timeout_ns);

/*
 * Waits until fd is ready for reading. Returns 0, or a negative errno value: -EINTR when one of
 * those signals came, and then only, no matter when it came.
 */
int signals_wait(int fd);

/* Whether whoever started this process had it ignore the signal. */
bool signals_ignored(int signal);

/* Dies by signal. Returns only when the signal is ignored. */
void signals_die(int signal);

#endif
