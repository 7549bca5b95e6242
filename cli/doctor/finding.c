/* SPDX-License-Identifier: MIT */
/*
 * What was found, in words: what happens most often to a question, and what would help.
 */
#include "doctor.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct finding *finding_add(struct group *group, const char *key, const char *title)
{
	struct finding *finding = &group->findings[group->count++];

	finding->key = key;
	finding->title = title;
	finding_is(finding, STATE_UNKNOWN, "not asked");
	return finding;
}

void finding_is(struct finding *finding, enum state state, const char *format, ...)
{
	va_list arguments;

	finding->state = state;
	va_start(arguments, format);
	vsnprintf(finding->detail, sizeof(finding->detail), format, arguments);
	va_end(arguments);
}

void finding_advise(struct finding *finding, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(finding->advice, sizeof(finding->advice), format, arguments);
	va_end(arguments);
}

void finding_number(struct finding *finding, int64_t value)
{
	snprintf(finding->value, sizeof(finding->value), "%lld", (long long)value);
}

void finding_truth(struct finding *finding, bool value)
{
	snprintf(finding->value, sizeof(finding->value), "%s", value ? "true" : "false");
}

void finding_word(struct finding *finding, const char *value)
{
	snprintf(finding->value, sizeof(finding->value), "\"%s\"", value);
}

bool finding_answered(struct finding *finding, const struct answer *answer, const char *call)
{
	switch (answer->reply) {
	case REPLY_DONE:
		return true;
	case REPLY_KILLED:
		finding->deadly = true;
		if (call && answer->signal == SIGSYS) {
			finding_refused(finding, call, FACT_KILLED);
			return false;
		}
		finding_is(finding, STATE_MISSING, "whoever asks is killed: %s",
			   strsignal(answer->signal));
		finding_advise(finding, "'dmesg' or the audit log may name the call");
		return false;
	case REPLY_LATE:
		finding_is(finding, STATE_UNKNOWN, "no answer within %d seconds",
			   ASK_MS / 1000);
		return false;
	default:
		finding->error = answer->error;
		finding_is(finding, STATE_UNKNOWN, "nobody could be asked: %s",
			   strerror(answer->error));
		finding_advise(finding, "see 'ulimit -v' and 'ulimit -u', and the memory and "
					"processes that a container may have");
		return false;
	}
}

const char *line_of(const char *path, const char *word, char *buffer, size_t capacity)
{
	FILE *file = fopen(path, "re");
	char line[512];

	buffer[0] = '\0';
	while (file && fgets(line, sizeof(line), file)) {
		const char *rest = line + strlen(word);

		if (strncmp(line, word, strlen(word)) != 0)
			continue;
		rest += strspn(rest, " \t");
		snprintf(buffer, capacity, "%.*s", (int)strcspn(rest, "\n"), rest);
		break;
	}
	if (file)
		fclose(file);
	return buffer;
}

int64_t number_in(const char *path)
{
	char line[64], *end;
	long long number = strtoll(line_of(path, "", line, sizeof(line)), &end, 10);

	return end == line ? -1 : number;
}

bool sandboxed(void)
{
	char mode[16];

	return strcmp(line_of("/proc/self/status", "Seccomp:", mode, sizeof(mode)), "2") == 0;
}

void finding_refused(struct finding *finding, const char *call, int error)
{
	error = abs(error);
	finding->state = STATE_MISSING;
	if (error == -FACT_KILLED) {
		finding->deadly = true;
		finding_is(finding, STATE_MISSING, "the sandbox kills whoever calls it");
		finding_advise(
			finding,
			"have the seccomp profile allow \"%s\", or answer EPERM: fid would "
			"be killed, too",
			call);
		return;
	}
	finding->error = error;
	finding_is(finding, STATE_MISSING, "refused with %s", fid_error_name(error));
	if (error == EMFILE || error == ENFILE)
		finding_advise(finding, "raise 'ulimit -n' (LimitNOFILE= of a service)");
	else if (error == ENOMEM)
		finding_advise(finding, "raise 'ulimit -v', or the memory of the container");
	else if (error == EFBIG)
		finding_advise(finding, "raise 'ulimit -f' (LimitFSIZE= of a service)");
	else if (sandboxed())
		finding_advise(finding,
			       "add \"%s\" to the calls that the seccomp profile of this "
			       "container or service allows",
			       call);
	else if (error == EPERM || error == EACCES)
		finding_advise(finding, "no seccomp filter is here: see the security module's "
					"log (SELinux, AppArmor)");
	else
		finding_advise(
			finding,
			error == ENOSYS
				? "this kernel has no %s, and only another one helps"
				: "this kernel's %s refuses it, and only another one helps",
			call);
}

void finding_blocked(struct finding *finding, const char *why)
{
	finding->informs = true;
	finding_is(finding, STATE_UNKNOWN, "not asked, since %s", why);
}
