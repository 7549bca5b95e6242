/* SPDX-License-Identifier: MIT */
/*
 * The file system of a path: what it shares, copies and splices, and its traps.
 */
#include "files.h"
#include "print.h"

#include <errno.h>
#include <string.h>

/* What would help where a file cannot be made or filled; false: nothing that is known. */
static bool advise_room(struct finding *finding)
{
	if (finding->error == ENOSPC || finding->error == EDQUOT)
		finding_advise(finding, "make room there: 128 KiB are enough");
	else if (finding->error == EFBIG)
		finding_advise(finding, "raise 'ulimit -f' (LimitFSIZE= of a service)");
	else if (finding->error == EMFILE || finding->error == ENFILE)
		finding_advise(finding, "raise 'ulimit -n' (LimitNOFILE= of a service)");
	else
		return false;
	return true;
}

/* Asks, and says why where there is no answer. */
static bool answered(struct finding *finding, struct answer *answer, question_fn question,
		     const struct files *about)
{
	ask(answer, question, about);
	if (!finding_answered(finding, answer, NULL))
		return false;
	if (!answer->error)
		return true;
	finding->error = answer->error;
	finding_is(finding, STATE_UNKNOWN, "no file to ask with: %s", strerror(answer->error));
	advise_room(finding);
	return false;
}

static void find_reflink(struct finding *finding, const struct files *about, const char *type)
{
	struct answer answer;
	int refused;

	if (!answered(finding, &answer, try_reflink, about))
		return;
	refused = answer.number[0] < 0 ? (int)-answer.number[0] : 0;
	finding_truth(finding, answer.yes);
	if (answer.yes) {
		finding_is(finding, STATE_OK, "files share their extents: nothing is copied");
		return;
	}
	if (refused == EPERM || refused == EACCES) {
		finding_refused(finding, "ioctl", refused);
		return;
	}
	finding->error = refused;
	finding_is(finding, STATE_LIMITED, "none (%s): between files the kernel copies",
		   refused ? fid_error_name(refused) : "other bytes");
	if (strcmp(type, "xfs") == 0)
		finding_advise(finding, "this xfs was made without: mkfs.xfs -m reflink=1");
	else if (strncmp(type, "nfs", 3) == 0)
		finding_advise(finding,
			       "mount -o vers=4.2, if the server's file system has them");
	else
		finding_advise(finding, "btrfs and xfs (mkfs.xfs -m reflink=1) have them");
}

static void find_copy(struct finding *finding, const struct files *about, const char *type)
{
	struct answer answer;

	if (!answered(finding, &answer, try_copy_file_range, about))
		return;
	finding_truth(finding, answer.yes);
	if (answer.yes) {
		finding_is(finding, STATE_OK, "the kernel copies between files");
	} else if (answer.number[0] > 0) {
		finding_is(finding, STATE_MISSING, "delivers other bytes");
		finding_advise(finding, "do not trust this file system with it: "
					"fid copy --route splice-pipe,read-write");
	} else if (answer.number[0] == 0) {
		finding_is(finding, STATE_LIMITED, "answers 0, as if the file were empty");
	} else {
		finding->error = (int)-answer.number[0];
		finding_is(finding, STATE_LIMITED, "refused with %s: bytes go through a pipe",
			   fid_error_name(finding->error));
		if (strncmp(type, "nfs", 3) == 0)
			finding_advise(finding, "mount -o vers=4.2");
	}
}

static void find_splice(struct finding *finding, const struct files *about,
			question_fn question)
{
	struct answer answer;

	if (!answered(finding, &answer, question, about))
		return;
	finding_truth(finding, answer.yes);
	if (answer.yes) {
		finding_is(finding, STATE_OK, "spliced");
		return;
	}
	if (answer.number[0] < 0)
		finding->error = (int)-answer.number[0];
	finding_is(finding, STATE_MISSING, "%s%s: fid reads and writes",
		   answer.number[0] < 0    ? "refused with "
		   : answer.number[0] == 0 ? "splice answers 0"
					   : "splice delivers other bytes",
		   finding->error ? fid_error_name(finding->error) : "");
	finding_advise(finding,
		       "this file system's doing: keep what is moved often on another, or "
		       "see its mount options");
}

static void find_append(struct finding *finding, const struct files *about)
{
	struct answer answer;

	if (!answered(finding, &answer, try_append, about))
		return;
	finding_truth(finding, answer.yes);
	if (answer.number[0] < 0) {
		finding->error = (int)-answer.number[0];
		finding_is(finding, STATE_OK, "refuses splice with %s: fid writes",
			   fid_error_name(finding->error));
	} else {
		finding_is(finding, STATE_OK, "takes splice");
	}
}

static void find_direct(struct finding *finding, const struct files *about)
{
	struct answer answer;

	if (!answered(finding, &answer, try_direct, about))
		return;
	finding_truth(finding, false);
	if (answer.number[2]) {
		finding->error = (int)answer.number[2];
		finding_is(finding, STATE_OK, "is not to be had here (%s)",
			   fid_error_name(finding->error));
		return;
	}
	if (!answer.yes) {
		finding_is(finding, STATE_MISSING, "splice delivers other bytes");
		return;
	}
	finding_truth(finding, answer.number[0] > 0 && answer.number[1] > 0);
	finding_is(finding, STATE_OK, "splice from it %s, splice to it %s",
		   answer.number[0] > 0   ? "works"
		   : answer.number[0] < 0 ? fid_error_name((int)answer.number[0])
					  : "answers 0",
		   answer.number[1] > 0   ? "works if aligned"
		   : answer.number[1] < 0 ? fid_error_name((int)answer.number[1])
					  : "answers 0");
}

static void find_end_of_file(struct finding *finding, const struct files *about)
{
	struct answer answer;

	if (!answered(finding, &answer, try_end_of_file, about))
		return;
	if (answer.yes) {
		finding_blocked(finding, "a read may take bytes from others");
		return;
	}
	if (answer.number[1] < 0) {
		finding->error = (int)-answer.number[1];
		finding_is(finding, STATE_UNKNOWN, "reading fails: %s",
			   strerror(finding->error));
		return;
	}
	finding_truth(finding, answer.number[0] == answer.number[1]);
	if (answer.number[0] == answer.number[1])
		finding_is(finding, STATE_OK, "splice ends where read() does");
	else if (answer.number[0] < 0)
		finding_is(finding, STATE_OK, "splice is refused, and fid reads");
	else
		finding_is(finding, STATE_OK,
			   "splice ends at %lld bytes, read() at %lld: fid believes read()",
			   (long long)answer.number[0], (long long)answer.number[1]);
}

/* ---- A path ---- */

static void find_type(struct finding *finding, const char *type, bool remote)
{
	finding_word(finding, type);
	finding_is(finding, STATE_OK, "%s%s", type,
		   remote ? ": a server tells sizes and bytes; fid believes read() only" : "");
}

static void find_writable(struct finding *finding, int error, bool is_stuck)
{
	finding_truth(finding, error == 0);
	finding->error = error;
	finding->folded = true;
	if (error == 0) {
		finding_is(finding, STATE_OK, "files without a name were made");
		return;
	}
	finding_is(finding, STATE_UNKNOWN, "no file can be %s there: %s",
		   is_stuck ? "removed" : "made", strerror(error));
	if (is_stuck)
		finding_advise(finding, "an empty file .fid-* stays behind there: remove it "
					"when you can");
	else if (error == EROFS)
		finding_advise(finding, "mount -o remount,rw, or name a directory elsewhere");
	else if (!advise_room(finding))
		finding_advise(finding,
			       "name a directory of that file system that this user may "
			       "write to");
}

enum { TYPE, WRITABLE, REFLINK, COPY, SOURCE, SINK, APPEND, DIRECT, END, KEYS };

static void add_all(struct group *group)
{
	static const char *const keys[KEYS][2] = {
		[TYPE] = {"file_system", "file system"},
		[WRITABLE] = {"writable", "writing"},
		[REFLINK] = {"reflink", "reflink"},
		[COPY] = {"copy_file_range", "copy_file_range"},
		[SOURCE] = {"splice_source", "splice from it"},
		[SINK] = {"splice_sink", "splice to it"},
		[APPEND] = {"append", "  with O_APPEND"},
		[DIRECT] = {"direct", "  with O_DIRECT"},
		[END] = {"end_of_file", "end of file"},
	};

	for (int i = 0; i < KEYS; i++)
		finding_add(group, keys[i][0], keys[i][1]);
}

static void ask_files(struct place *place, const struct facts *facts, const struct files *about,
		      const char *type)
{
	static const question_fn spliced[KEYS] = {[SOURCE] = try_source, [SINK] = try_sink};
	struct finding *findings = place->group.findings;
	const char *no_splice = facts->of.pipe < 0     ? "there is no pipe"
				: facts->of.splice < 0 ? "splice is refused"
						       : NULL;
	const char *no_file = "no file can be made there";

	for (int i = REFLINK; i < KEYS; i++) {
		if (i >= SOURCE && no_splice)
			finding_blocked(&findings[i], no_splice);
		else if (i == COPY && facts->of.copy_file_range < 0)
			finding_blocked(&findings[i], "copy_file_range is refused");
		else if (!place->writable && !(i == END && about->file))
			finding_blocked(&findings[i], no_file);
		else if (i == REFLINK)
			find_reflink(&findings[i], about, type);
		else if (i == COPY)
			find_copy(&findings[i], about, type);
		else if (i == APPEND)
			find_append(&findings[i], about);
		else if (i == DIRECT)
			find_direct(&findings[i], about);
		else if (i == END)
			find_end_of_file(&findings[i], about);
		else
			find_splice(&findings[i], about, spliced[i]);
	}
}

void check_place(struct place *place, const char *path, const struct facts *facts, bool named)
{
	struct finding *findings = place->group.findings;
	struct files about = {.directory = place->directory};
	struct answer answer;
	char shown[512];

	memset(&place->group, 0, sizeof(place->group));
	place->group.path = path;
	place->directory[0] = '\0';
	add_all(&place->group);
	for (int i = WRITABLE; i < KEYS; i++)
		finding_blocked(&findings[i], "there was no answer");
	ask(&answer, look, path);
	if (!finding_answered(&findings[TYPE], &answer, NULL)) {
		if (answer.reply == REPLY_LATE)
			finding_advise(&findings[TYPE],
				       "its server or its disk may be dead: see "
				       "'dmesg', and 'umount -l' or '-f'");
		return;
	}
	if (answer.error) {
		findings[TYPE].error = answer.error;
		finding_is(&findings[TYPE], STATE_UNKNOWN, "%s", strerror(answer.error));
		if (named)
			print_error("%s: %s", print_name(shown, sizeof(shown), path),
				    strerror(answer.error));
		return;
	}
	for (int i = WRITABLE; i < KEYS; i++)
		findings[i].informs = false;
	memcpy(place->directory, answer.text, sizeof(place->directory));
	about.file = answer.yes ? path : NULL;
	find_type(&findings[TYPE], answer.word, answer.number[1] != 0);
	place->writable = answer.number[0] == 0;
	find_writable(&findings[WRITABLE], (int)answer.number[0], answer.number[2] != 0);
	ask_files(place, facts, &about, answer.word);
}
