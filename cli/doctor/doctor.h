/* SPDX-License-Identifier: MIT */
/*
 * fid doctor: what is asked, how, and what was found.
 */
#ifndef FID_CLI_DOCTOR_H
#define FID_CLI_DOCTOR_H

#include <fid.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- What was found ---- */

enum state {
	STATE_OK = 0,  /* it is there, or it is as on every kernel and fid knows its way */
	STATE_LIMITED, /* fid does without, at a cost that the detail or the advice tells */
	STATE_MISSING, /* fid would use it, and something here refuses it */
	STATE_UNKNOWN, /* it could not be found out */
};

struct finding {
	const char *key;   /* in JSON */
	const char *title; /* for people */
	enum state state;
	bool folded;      /* shown to people only where it is not ok */
	bool informs;     /* never counts for the exit status: fid does not need it */
	bool deadly;      /* the sandbox kills for it */
	int error;        /* an errno value, or 0 */
	char value[80];   /* as JSON; "": null */
	char detail[160]; /* the rest of "It ..." in few words */
	char advice[240]; /* what would help; "": nothing to do */
};

enum { FINDINGS_MAX = 32 };

struct group {
	const char *key; /* in JSON */
	const char *title;
	const char *path; /* what it is about, or NULL: about no file system */
	struct finding findings[FINDINGS_MAX];
	size_t count;
};

struct finding *finding_add(struct group *group, const char *key, const char *title);

/* State and detail. */
void finding_is(struct finding *finding, enum state state, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void finding_advise(struct finding *finding, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

void finding_number(struct finding *finding, int64_t value);
void finding_truth(struct finding *finding, bool value);
/* value: letters, digits and what needs no escape in JSON. */
void finding_word(struct finding *finding, const char *value);

/* ---- How it is asked ---- */

/*
 * Every question is asked in a child process: one that the sandbox kills, that hangs, or that
 * spends all pipes and descriptors is then an answer as well, and nothing stays behind.
 */
enum reply {
	REPLY_DONE = 0,
	REPLY_KILLED,
	REPLY_LATE,
	REPLY_NONE, /* there was no child to ask */
};

enum { ASK_MS = 5000 };

struct answer {
	enum reply reply;
	int signal; /* REPLY_KILLED */
	int error;  /* REPLY_NONE: why; else a question's own */
	bool yes;
	int64_t number[4];
	char text[PATH_MAX];
	char word[64];
	struct fid_facts facts;
};

typedef void (*question_fn)(struct answer *answer, const void *about);

void ask(struct answer *ret_answer, question_fn question, const void *about);

/*
 * Whether there is an answer; else the finding says why there is none. call: what a sandbox
 * that kills must have meant; NULL: it may have been another one.
 */
bool finding_answered(struct finding *finding, const struct answer *answer, const char *call);

/* That call is refused with error: state, detail and advice. */
void finding_refused(struct finding *finding, const char *call, int error);

/* Another finding is the reason why this could not be asked, and is the one that counts. */
void finding_blocked(struct finding *finding, const char *why);

/* Whether a seccomp filter holds for this process. */
bool sandboxed(void);

/* A line of a file that begins with that word, without it; "" where there is none. */
const char *line_of(const char *path, const char *word, char *buffer, size_t capacity);

/* The number that a file of /proc or /sys holds, or -1. */
int64_t number_in(const char *path);

/* ---- The checks ---- */

/* fid_probe()'s own; where the sandbox kills for a call, what can still be known. */
struct facts {
	struct fid_facts of;
	struct answer answer; /* REPLY_DONE: all of it is known */
};

/* As an error in the facts: the sandbox kills whoever makes the call. */
#define FACT_KILLED (-100000)

void facts_find(struct facts *ret_facts);

/* A call that fid_probe() asks about, with its refusal; works: the detail where there is none.
 */
struct finding *add_call(struct group *group, const struct facts *facts, const char *key,
			 const char *title, const char *call, int32_t error, const char *works);

/* Whether fid_probe() could tell of what comes after the call; else the finding says why not.
 */
bool facts_tell(struct finding *finding, const struct facts *facts, const char *call,
		int32_t error);

void check_calls(struct group *group, const struct facts *facts);
void check_memory(struct group *group, const struct facts *facts);
void check_signals(struct group *group, const struct facts *facts);
void check_pipes(struct group *group, const struct facts *facts);
void check_ends(struct group *group, const struct facts *facts);
void check_ring(struct group *group);

struct place {
	struct group group;
	char directory[PATH_MAX]; /* where files are made; "": there was no answer */
	bool writable;
};

/* named: somebody did, and is told if it is not there. */
void check_place(struct place *place, const char *path, const struct facts *facts, bool named);

/* ---- How it is told ---- */

enum { CALLS, MEMORY, PIPES, SIGNALS, ENDS, RING, GROUPS };

struct report {
	struct group groups[GROUPS];
	struct place *places;
	size_t places_count;
};

struct tally {
	unsigned missing, limited, unknown;
};

void report_count(const struct report *report, struct tally *ret_tally);

/* Both return false, after a message, when it cannot be printed. */
bool report_show(const struct report *report);
bool report_json(const struct report *report);

#endif
