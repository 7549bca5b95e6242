/* SPDX-License-Identifier: MIT */
/*
 * The file system of a path: what it shares, copies and splices, and its traps. All is done
 * with files that have no name, or lose it at once.
 */
#include "doctor.h"
#include "print.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { BYTES = 64 << 10 };

static unsigned char content[BYTES], got[BYTES];

/* ---- Files ---- */

/* Here one may make files and not remove them: the first one is the last. */
static bool stuck;

/* One with a name, for file systems without O_TMPFILE: no signal may come before the unlink. */
static int make_named(const char *directory)
{
	char path[PATH_MAX + 32];
	sigset_t all, before;
	int fd, error;

	snprintf(path, sizeof(path), "%s/.fid-doctor-XXXXXX", directory);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	fd = mkostemp(path, O_CLOEXEC);
	error = errno;
	if (fd >= 0 && unlink(path) < 0) {
		error = errno;
		stuck = true;
		close(fd);
		fd = -1;
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return fd;
}

static int make_file(const char *directory)
{
	int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || errno == EACCES || errno == EROFS || errno == ENOSPC || errno == EDQUOT)
		return fd;
	return make_named(directory);
}

static bool fill(int fd)
{
	for (size_t i = 0; i < BYTES; i++)
		content[i] = (unsigned char)(i * 131 + (i >> 8) * 7 + 1);
	for (size_t done = 0; done < BYTES;) {
		ssize_t wrote = pwrite(fd, content + done, BYTES - done, (off_t)done);

		if (wrote <= 0)
			return false;
		done += (size_t)wrote;
	}
	return true;
}

/* Whether the first count bytes of fd are the content's. */
static bool holds(int fd, int64_t count)
{
	int64_t done = 0;

	while (done < count) {
		ssize_t bytes = pread(fd, got + done, (size_t)(count - done), (off_t)done);

		if (bytes <= 0)
			return false;
		done += bytes;
	}
	return memcmp(got, content, (size_t)count) == 0;
}

/* ---- Which file system ---- */

/* A line of /proc/self/mountinfo: its number, the device, and behind " - " the type. */
static bool parse_mount(char *line, int wanted, dev_t device, char type[64])
{
	char *mark = strstr(line, " - ");
	unsigned first, second;
	int number;

	if (!mark || sscanf(line, "%d %*d %u:%u", &number, &first, &second) != 3)
		return false;
	if (wanted ? number != wanted : makedev(first, second) != device)
		return false;
	snprintf(type, 64, "%.*s", (int)strcspn(mark + 3, " \n"), mark + 3);
	return true;
}

/* By its mount; gVisor has no mnt_id there, and the device must do. */
static void type_of(int fd, const struct stat *stat, char type[64])
{
	char path[64], number[32], line[4096];
	struct statfs about;
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	bool found = false;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	line_of(path, "mnt_id:", number, sizeof(number));
	while (mounts && !found && fgets(line, sizeof(line), mounts))
		found = parse_mount(line, atoi(number), stat->st_dev, type);
	if (mounts)
		fclose(mounts);
	if (found)
		return;
	if (fstatfs(fd, &about) == 0)
		snprintf(type, 64, "0x%lx", (unsigned long)about.f_type);
	else
		snprintf(type, 64, "unknown");
}

/* ---- Questions ---- */

/*
 * text: the directory; word: the file system's type; yes: the path is a regular file;
 * number[0]: the error of making a file; number[1]: whether a server stands behind it;
 * number[2]: whether it was that of removing one.
 */
static void look(struct answer *answer, const void *about)
{
	const char *path = about;
	char *directory = answer->text, *slash;
	struct fid_end end;
	struct stat stat;
	int fd, made;

	/* Not opened as what it is: a FIFO or a device would wait, or do something. */
	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &stat) < 0) {
		answer->error = errno;
		return;
	}
	snprintf(directory, PATH_MAX, "%s", path);
	if (!S_ISDIR(stat.st_mode)) {
		slash = strrchr(directory, '/');
		if (!slash)
			strcpy(directory, ".");
		else
			slash[slash == directory] = '\0';
	}
	answer->yes = S_ISREG(stat.st_mode);
	type_of(fd, &stat, answer->word);
	made = make_file(directory);
	answer->number[0] = made < 0 ? errno : 0;
	answer->number[2] = stuck;
	if (fid_end_look(fd, &end) == 0)
		answer->number[1] = end.remote;
	/* Of a folder it says nothing; and a server may not know a file without a name. */
	if (made >= 0 && fid_end_look(made, &end) == 0)
		answer->number[1] |= end.remote;
}

struct about {
	const char *directory;
	const char *file; /* to read, or NULL: one is made */
};

/* Two files, the first with content. */
static bool make_two(struct answer *answer, const struct about *about, int files[2])
{
	for (int i = 0; i < 2; i++) {
		files[i] = make_file(about->directory);
		if (files[i] < 0 || (i == 0 && !fill(files[i]))) {
			answer->error = errno ? errno : ENOSPC;
			return false;
		}
	}
	return true;
}

/* number[0]: what the call said; yes: and the bytes are the right ones. */
static void try_reflink(struct answer *answer, const void *about)
{
	int files[2];

	if (!make_two(answer, about, files))
		return;
	answer->number[0] = ioctl(files[1], FICLONE, files[0]) < 0 ? -errno : BYTES;
	answer->yes = answer->number[0] > 0 && holds(files[1], BYTES);
}

static void try_copy_file_range(struct answer *answer, const void *about)
{
	int64_t from = 0, to = 0;
	int files[2];

	if (!make_two(answer, about, files))
		return;
	answer->number[0] = copy_file_range(files[0], &from, files[1], &to, BYTES, 0);
	if (answer->number[0] < 0)
		answer->number[0] = -errno;
	answer->yes = answer->number[0] > 0 && holds(files[1], answer->number[0]);
}

/* Splices from the beginning of the file into a pipe. */
static void splice_from(struct answer *answer, int file)
{
	int64_t from = 0;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0) {
		answer->error = errno;
		return;
	}
	answer->number[0] = splice(file, &from, ends[1], NULL, BYTES, SPLICE_F_NONBLOCK);
	if (answer->number[0] < 0)
		answer->number[0] = -errno;
	answer->yes = answer->number[0] > 0 && read(ends[0], got, BYTES) == answer->number[0] &&
		      memcmp(got, content, (size_t)answer->number[0]) == 0;
}

/* A page of content goes through a pipe into the file, at that offset or at its own. */
static void splice_to(struct answer *answer, int file, int64_t *to)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0 || write(ends[1], content, 4096) != 4096) {
		answer->error = errno;
		return;
	}
	answer->number[0] = splice(ends[0], NULL, file, to, 4096, SPLICE_F_NONBLOCK);
	if (answer->number[0] < 0)
		answer->number[0] = -errno;
	answer->yes = answer->number[0] > 0 && holds(file, answer->number[0]);
}

static void try_source(struct answer *answer, const void *about)
{
	int files[2];

	if (make_two(answer, about, files))
		splice_from(answer, files[0]);
}

static void try_sink(struct answer *answer, const void *about)
{
	int64_t to = 0;
	int files[2];

	if (make_two(answer, about, files))
		splice_to(answer, files[1], &to);
}

static void try_append(struct answer *answer, const void *about)
{
	int files[2];

	if (!make_two(answer, about, files))
		return;
	if (fcntl(files[1], F_SETFL, O_APPEND) < 0)
		answer->error = errno;
	else
		splice_to(answer, files[1], NULL);
}

/* number[0]: as source; number[1]: as sink; number[2]: the error of setting O_DIRECT. */
static void try_direct(struct answer *answer, const void *about)
{
	int64_t to = 0, as_source;
	int files[2];
	bool right;

	if (!make_two(answer, about, files))
		return;
	if (fcntl(files[0], F_SETFL, O_DIRECT) < 0 || fcntl(files[1], F_SETFL, O_DIRECT) < 0) {
		answer->number[2] = errno;
		return;
	}
	splice_from(answer, files[0]);
	as_source = answer->number[0];
	right = answer->yes || as_source < 0;
	fcntl(files[1], F_SETFL, 0);
	if (ftruncate(files[1], 4096) < 0 || fcntl(files[1], F_SETFL, O_DIRECT) < 0)
		answer->error = errno;
	splice_to(answer, files[1], &to);
	answer->number[1] = answer->number[0];
	/* What was written is read without O_DIRECT, which wants aligned memory. */
	fcntl(files[1], F_SETFL, 0);
	answer->yes = right && (answer->number[1] < 0 || holds(files[1], answer->number[1]));
	answer->number[0] = as_source;
}

static int64_t bytes_by_splice(int file, const int ends[2])
{
	int64_t at = 0, moved;

	while (at < BYTES) {
		moved = splice(file, &at, ends[1], NULL, (size_t)(BYTES - at),
			       SPLICE_F_NONBLOCK);
		if (moved < 0)
			return -errno;
		if (moved == 0 || read(ends[0], got, (size_t)moved) != moved)
			break;
	}
	return at;
}

static int64_t bytes_by_read(int file)
{
	int64_t at = 0;

	while (at < BYTES) {
		ssize_t bytes = pread(file, got, (size_t)(BYTES - at), (off_t)at);

		if (bytes < 0)
			return -errno;
		if (bytes == 0)
			break;
		at += bytes;
	}
	return at;
}

/* How many of a file's first 64 KiB come by splice, number[0], and by read, number[1]. */
static void try_end_of_file(struct answer *answer, const void *argument)
{
	const struct about *about = argument;
	int files[2], ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0) {
		answer->error = errno;
		return;
	}
	if (about->file)
		files[0] = open(about->file, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (about->file && files[0] < 0)
		answer->error = errno;
	if (answer->error || (!about->file && !make_two(answer, about, files)))
		return;
	answer->number[0] = bytes_by_splice(files[0], ends);
	answer->number[1] = bytes_by_read(files[0]);
}

/* ---- Findings ---- */

/* Asks, and says why where there is no answer. */
static bool answered(struct finding *finding, struct answer *answer, question_fn question,
		     const struct about *about)
{
	ask(answer, question, about);
	if (!finding_answered(finding, answer, NULL))
		return false;
	if (!answer->error)
		return true;
	finding->error = answer->error;
	finding_is(finding, STATE_UNKNOWN, "no file to ask with: %s", strerror(answer->error));
	return false;
}

static void find_reflink(struct finding *finding, const struct about *about, const char *type)
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

static void find_copy(struct finding *finding, const struct about *about, const char *type)
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

static void find_splice(struct finding *finding, const struct about *about,
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

static void find_append(struct finding *finding, const struct about *about)
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

static void find_direct(struct finding *finding, const struct about *about)
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

static void find_end_of_file(struct finding *finding, const struct about *about)
{
	struct answer answer;

	if (!answered(finding, &answer, try_end_of_file, about))
		return;
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
		finding_advise(finding,
			       "an empty file .fid-doctor-* stays behind there: remove it "
			       "when you can");
	else if (error == EROFS)
		finding_advise(finding, "mount -o remount,rw, or name a directory elsewhere");
	else if (error == ENOSPC || error == EDQUOT)
		finding_advise(finding, "make room there: 128 KiB are enough");
	else
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

static void ask_files(struct place *place, const struct facts *facts, const struct about *about,
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
	struct about about = {.directory = place->directory};
	struct answer answer;
	char shown[512];

	memset(&place->group, 0, sizeof(place->group));
	place->group.path = path;
	place->directory[0] = '\0';
	add_all(&place->group);
	for (int i = WRITABLE; i < KEYS; i++)
		finding_blocked(&findings[i], "there was no answer");
	ask(&answer, look, path);
	if (!finding_answered(&findings[TYPE], &answer, NULL))
		return;
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
