/* SPDX-License-Identifier: MIT */
/*
 * The calls and their flags, what vmsplice means, memory, SIGPIPE.
 */
#include "doctor.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x100
#endif

/* ---- Facts ---- */

static void ask_everything(struct answer *answer, const void *about)
{
	(void)about;
	fid_probe(&answer->facts, 0);
}

/* A call on descriptors that cannot be open: EBADF says that it is there. */
static int64_t make_splice(void)
{
	return kernel_splice(-1, NULL, -1, NULL, 1, 0);
}

static int64_t make_tee(void)
{
	return kernel_tee(-1, -1, 1, 0);
}

static int64_t make_vmsplice(void)
{
	return kernel_vmsplice(-1, NULL, 0, 0);
}

static int64_t make_sendfile(void)
{
	return kernel_sendfile(-1, -1, 1);
}

static int64_t make_copy_file_range(void)
{
	return kernel_copy_file_range(-1, NULL, -1, NULL, 1);
}

static int64_t make_pwritev2(void)
{
	char byte = 0;
	struct iovec segment = {&byte, 1};

	return kernel_said((long)pwritev2(-1, &segment, 1, -1, RWF_NOSIGNAL));
}

static int64_t make_pipe(void)
{
	int ends[2];

	return kernel_said(pipe2(ends, O_CLOEXEC));
}

static int64_t make_pipe_size(void)
{
	return kernel_said(fcntl(-1, F_SETPIPE_SZ, 65536));
}

static int64_t make_memory_file(void)
{
	return kernel_said(memfd_create("fid", MFD_CLOEXEC));
}

/* Those that fid_probe() makes, where the sandbox killed it: one at a time. */
static const struct {
	int64_t (*make)(void);
	size_t fact;
} calls[] = {
	{make_splice, offsetof(struct fid_facts, splice)},
	{make_tee, offsetof(struct fid_facts, tee)},
	{make_vmsplice, offsetof(struct fid_facts, vmsplice)},
	{make_vmsplice, offsetof(struct fid_facts, vmsplice_gift)},
	{make_sendfile, offsetof(struct fid_facts, sendfile)},
	{make_copy_file_range, offsetof(struct fid_facts, copy_file_range)},
	{make_pwritev2, offsetof(struct fid_facts, write_nosignal)},
	{make_pipe, offsetof(struct fid_facts, pipe)},
	{make_pipe_size, offsetof(struct fid_facts, pipe_grow)},
	{make_memory_file, offsetof(struct fid_facts, memory_seal)},
};

static void make_call(struct answer *answer, const void *about)
{
	const size_t *index = about;
	int64_t said = calls[*index].make();

	if (said < 0 && said != -EBADF)
		answer->error = (int)-said;
}

void facts_find(struct facts *ret_facts)
{
	struct answer answer;

	memset(ret_facts, 0, sizeof(*ret_facts));
	ask(&ret_facts->answer, ask_everything, NULL);
	ret_facts->of = ret_facts->answer.facts;
	if (ret_facts->answer.reply != REPLY_KILLED)
		return;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		int32_t refusal;

		ask(&answer, make_call, &i);
		refusal = answer.reply == REPLY_KILLED ? FACT_KILLED : -answer.error;
		memcpy((char *)&ret_facts->of + calls[i].fact, &refusal, sizeof(refusal));
	}
}

struct finding *add_call(struct group *group, const struct facts *facts, const char *key,
			 const char *title, const char *call, int32_t error, const char *works)
{
	struct finding *finding = finding_add(group, key, title);

	if (facts->answer.reply != REPLY_KILLED &&
	    !finding_answered(finding, &facts->answer, call))
		return finding;
	if (error < 0)
		finding_refused(finding, call, error);
	else
		finding_is(finding, STATE_OK, "%s", works);
	return finding;
}

bool facts_tell(struct finding *finding, const struct facts *facts, const char *call,
		int32_t error)
{
	char why[64];

	snprintf(why, sizeof(why), "%s is refused", call);
	if (error < 0)
		finding_blocked(finding, why);
	else if (facts->answer.reply == REPLY_KILLED)
		finding_blocked(finding, "the sandbox kills for another call");
	else if (facts->of.pipe < 0)
		finding_blocked(finding, "there is no pipe");
	else
		return finding_answered(finding, &facts->answer, call);
	return false;
}

/* ---- Flags ---- */

static const struct {
	const char *name;
	unsigned flag;
} flags[] = {
	{"MOVE", SPLICE_F_MOVE},
	{"NONBLOCK", SPLICE_F_NONBLOCK},
	{"MORE", SPLICE_F_MORE},
	{"GIFT", SPLICE_F_GIFT},
};

enum calls_with_flags { WITH_SPLICE, WITH_TEE, WITH_VMSPLICE };

static int64_t move_byte(enum calls_with_flags call, const int from[2], const int to[2],
			 unsigned flag)
{
	static char byte = 'f';
	struct iovec segment = {&byte, 1};

	if (call == WITH_VMSPLICE)
		return kernel_vmsplice(to[1], &segment, 1, flag);
	if (write(from[1], "f", 1) != 1)
		return -1;
	return call == WITH_SPLICE ? kernel_splice(from[0], NULL, to[1], NULL, 1, flag)
				   : kernel_tee(from[0], to[1], 1, flag);
}

/* With which flags a byte goes from one pipe to another. */
static void try_flags(struct answer *answer, const void *about)
{
	const enum calls_with_flags *call = about;

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		int from[2], to[2];
		int64_t moved;

		if (pipe2(from, O_CLOEXEC) < 0 || pipe2(to, O_CLOEXEC) < 0) {
			answer->error = errno;
			return;
		}
		moved = move_byte(*call, from, to, flags[i].flag);
		if (moved == 1)
			strcat(answer->text, flags[i].name);
		if (moved == 1)
			strcat(answer->text, " ");
		answer->yes |= moved == 1 && flags[i].flag == SPLICE_F_NONBLOCK;
		close(from[0]);
		close(from[1]);
		close(to[0]);
		close(to[1]);
	}
	answer->text[strlen(answer->text) ? strlen(answer->text) - 1 : 0] = '\0';
}

static void add_flags(struct group *group, const struct facts *facts, const char *key,
		      const char *call, enum calls_with_flags which, int32_t refused)
{
	struct finding *finding = finding_add(group, key, "  its flags");
	struct answer answer;

	if (refused < 0 || facts->of.pipe < 0) {
		facts_tell(finding, facts, call, refused);
		return;
	}
	ask(&answer, try_flags, &which);
	if (!finding_answered(finding, &answer, call))
		return;
	finding->error = answer.error;
	if (answer.error) {
		finding_is(finding, STATE_UNKNOWN, "no pipe to ask with: %s",
			   strerror(answer.error));
		return;
	}
	finding_word(finding, answer.text);
	if (answer.yes) {
		finding_is(finding, STATE_OK, "takes %s", answer.text);
		return;
	}
	finding_is(finding, STATE_MISSING, "refuses NONBLOCK; takes %s",
		   answer.text[0] ? answer.text : "none");
	finding_advise(finding, "fid asks for it in every call: this kernel's %s is of no use",
		       call);
}

/* ---- The groups ---- */

static void add_empty(struct group *group, const struct facts *facts)
{
	struct finding *finding = finding_add(group, "splice_empty_is_eof", "  an empty pipe");

	if (!facts_tell(finding, facts, "splice", facts->of.splice))
		return;
	finding->folded = true;
	finding_truth(finding, facts->of.splice_empty_is_eof);
	if (facts->of.splice_empty_is_eof)
		finding_is(finding, STATE_LIMITED,
			   "answers 0, as at the end of a file (gVisor does): fid asks read()");
	else
		finding_is(finding, STATE_OK, "answers EAGAIN, as it should");
}

static void add_gift(struct group *group, const struct facts *facts)
{
	struct finding *finding = finding_add(group, "vmsplice_gift", "  its GIFT");

	if (!facts_tell(finding, facts, "vmsplice", facts->of.vmsplice))
		return;
	finding_truth(finding, facts->of.vmsplice_gift == 0);
	if (facts->of.vmsplice_gift == 0) {
		finding_is(finding, STATE_OK, "pages can be given away");
		return;
	}
	finding->error = -facts->of.vmsplice_gift;
	finding_is(finding, STATE_LIMITED, "refused with %s: fid asks again without it",
		   fid_error_name(facts->of.vmsplice_gift));
	finding_advise(finding,
		       "programs that insist on SPLICE_F_GIFT are helped by 'fid run'");
}

void check_calls(struct group *group, const struct facts *facts)
{
	const struct fid_facts *of = &facts->of;

	add_call(group, facts, "splice", "splice", "splice", of->splice,
		 "moves bytes between pipes");
	add_flags(group, facts, "splice_flags", "splice", WITH_SPLICE, of->splice);
	add_empty(group, facts);
	add_call(group, facts, "tee", "tee", "tee", of->tee,
		 "gives a pipe's bytes to another pipe as well");
	add_flags(group, facts, "tee_flags", "tee", WITH_TEE, of->tee);
	add_call(group, facts, "vmsplice", "vmsplice", "vmsplice", of->vmsplice,
		 "gives memory to a pipe");
	add_flags(group, facts, "vmsplice_flags", "vmsplice", WITH_VMSPLICE, of->vmsplice);
	add_gift(group, facts);
	add_call(group, facts, "sendfile", "sendfile", "sendfile", of->sendfile, "is there");
	add_call(group, facts, "copy_file_range", "copy_file_range", "copy_file_range",
		 of->copy_file_range, "is there");
}

static void add_meaning(struct group *group, const struct facts *facts)
{
	struct finding *finding = finding_add(group, "vmsplice_meaning", "vmsplice means");

	if (!facts_tell(finding, facts, "vmsplice", facts->of.vmsplice))
		return;
	switch (facts->of.vmsplice_meaning) {
	case FID_VMSPLICE_BY_REFERENCE:
		finding_word(finding, "by-reference");
		finding_is(finding, STATE_OK,
			   "by reference: a later store is seen by the reader");
		break;
	case FID_VMSPLICE_COPIES:
		finding_word(finding, "copying");
		finding_is(finding, STATE_LIMITED,
			   "a copy, as with write(): new data goes no faster with it");
		break;
	default:
		finding_is(finding, STATE_UNKNOWN, "there was no memory to ask with");
	}
}

static void add_fresh(struct group *group, const struct facts *facts)
{
	struct finding *finding = finding_add(group, "vmsplice_fresh", "fresh pages");

	if (!facts_tell(finding, facts, "vmsplice", facts->of.vmsplice))
		return;
	finding_truth(finding, facts->of.vmsplice_fresh);
	if (facts->of.vmsplice_fresh) {
		finding_is(finding, STATE_OK, "dropped after vmsplice they keep their bytes");
		return;
	}
	finding_is(finding, STATE_LIMITED,
		   "pages dropped after vmsplice are not safe: fid "
		   "copies new data");
	finding_advise(finding, "where memory is locked (mlockall), unlock it");
}

static void add_huge_pages(struct group *group, const struct facts *facts)
{
	struct finding *finding = finding_add(group, "huge_pages", "huge pages");
	char line[128];

	if (facts->answer.reply == REPLY_KILLED)
		finding_blocked(finding, "the sandbox kills for another call");
	else if (!finding_answered(finding, &facts->answer, NULL))
		return;
	if (facts->answer.reply != REPLY_DONE)
		return;
	finding_truth(finding, facts->of.huge_pages);
	if (facts->of.huge_pages) {
		finding_is(finding, STATE_OK, "2 MiB of new memory come as one page");
		return;
	}
	line_of("/sys/kernel/mm/transparent_hugepage/enabled", "", line, sizeof(line));
	if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1) {
		finding_is(finding, STATE_MISSING, "switched off for this process");
		finding_advise(finding, "whoever started it called prctl(PR_SET_THP_DISABLE)");
	} else if (strstr(line, "[never]")) {
		finding_is(finding, STATE_MISSING, "switched off: fid_memory copies new data");
		finding_advise(finding,
			       "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
	} else {
		finding_is(finding, STATE_LIMITED,
			   "none was to be had: fid_memory copies new data");
		if (line[0])
			finding_advise(finding, "memory may be short or in small pieces: "
						"echo 1 > /proc/sys/vm/compact_memory");
	}
}

void check_memory(struct group *group, const struct facts *facts)
{
	add_meaning(group, facts);
	add_fresh(group, facts);
	add_huge_pages(group, facts);
	add_call(group, facts, "memory_seal", "sealed memory", "memfd_create",
		 facts->of.memory_seal, "a memfd that nobody can write any more");
}

/* ---- SIGPIPE ---- */

static volatile sig_atomic_t raised;

static void note(int signal)
{
	(void)signal;
	raised = 1;
}

/* A pipe without a reader, and what splicing into it does: by itself, and as fid does it. */
static void break_pipe(struct answer *answer, const void *about)
{
	struct sigaction action = {.sa_handler = note};
	int from[2], to[2];
	sigset_t one;

	(void)about;
	sigaction(SIGPIPE, &action, NULL);
	sigemptyset(&one);
	sigaddset(&one, SIGPIPE);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	if (pipe2(from, O_CLOEXEC) < 0 || pipe2(to, O_CLOEXEC) < 0 ||
	    write(from[1], "f", 1) != 1) {
		answer->error = errno;
		return;
	}
	close(to[0]);
	answer->yes = kernel_splice(from[0], NULL, to[1], NULL, 1, SPLICE_F_NONBLOCK) < 0 &&
		      raised;
	raised = 0;
	answer->number[0] = fid_splice(from[0], NULL, to[1], NULL, 1, FID_NOSIGNAL);
	answer->number[1] = raised;
}

static void add_sigpipe(struct group *group, const struct facts *facts)
{
	struct finding *finding = finding_add(group, "sigpipe", "SIGPIPE");
	struct answer answer;

	if (facts->of.splice == FACT_KILLED) {
		facts_tell(finding, facts, "splice", facts->of.splice);
		return;
	}
	ask(&answer, break_pipe, NULL);
	if (!finding_answered(finding, &answer, NULL))
		return;
	if (answer.error) {
		finding->error = answer.error;
		finding_is(finding, STATE_UNKNOWN, "no pipe to ask with: %s",
			   strerror(answer.error));
		return;
	}
	if (facts->of.splice == 0)
		finding_truth(finding, answer.yes);
	if (answer.number[1])
		finding_is(finding, STATE_MISSING, "fid cannot hold it back here");
	else if (answer.yes)
		finding_is(finding, STATE_OK,
			   "raised by splice into a pipe without a reader; fid holds it back");
	else
		finding_is(finding, STATE_OK, "not raised by %s",
			   facts->of.splice < 0 ? "fid; splice is refused"
						: "splice, nor by fid");
}

static void add_nosignal(struct group *group, const struct facts *facts)
{
	struct finding *finding = finding_add(group, "write_nosignal", "RWF_NOSIGNAL");
	int32_t refused = facts->of.write_nosignal;

	if (refused == FACT_KILLED) {
		finding_refused(finding, "pwritev2", refused);
		return;
	}
	if (!facts_tell(finding, facts, "pwritev2", 0))
		return;
	finding_truth(finding, refused == 0);
	if (refused == 0) {
		finding_is(finding, STATE_OK, "writes raise no signal");
		return;
	}
	finding->error = -refused;
	finding_is(finding, STATE_LIMITED, "refused with %s: fid blocks SIGPIPE around writes",
		   fid_error_name(refused));
	finding_advise(
		finding,
		"it came with Linux 6.18; without it a write costs two system calls more");
}

void check_signals(struct group *group, const struct facts *facts)
{
	add_sigpipe(group, facts);
	add_nosignal(group, facts);
}
