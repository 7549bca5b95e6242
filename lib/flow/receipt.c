/* SPDX-License-Identifier: MIT */
/*
 * The account in words: one English sentence, and one JSON object. Numbers are written from
 * integers, since printf's decimal point follows the locale of the program.
 */
#include <fid.h>

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct text {
	char *buffer;
	size_t capacity;
	size_t length; /* of the whole text, whether it fits or not */
};

__attribute__((format(printf, 2, 3))) static void append(struct text *text, const char *format,
							 ...)
{
	size_t left = text->length < text->capacity ? text->capacity - text->length : 0;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(left ? text->buffer + text->length : NULL, left, format, arguments);
	va_end(arguments);
	if (length > 0)
		text->length += (size_t)length;
}

static const char *name_of(unsigned value, const char *const *names, unsigned count)
{
	return value < count ? names[value] : "unknown";
}

#define NAME_OF(value, names) \
	name_of((unsigned)(value), (names), sizeof(names) / sizeof((names)[0]))

const char *fid_side_name(enum fid_side side)
{
	static const char *const names[] = {"none", "source", "sink", "fid"};

	return NAME_OF(side, names);
}

const char *fid_class_name(enum fid_class class_)
{
	static const char *const names[] = {"by-reference", "kernel-copy", "user-copy"};

	return NAME_OF(class_, names);
}

const char *fid_method_name(enum fid_method method)
{
	static const char *const names[] = {"reflink", "copy_file_range", "sendfile",
					    "splice",  "splice-pipe",     "read-write",
					    "tee",     "vmsplice"};

	return NAME_OF(method, names);
}

const char *fid_kind_name(enum fid_kind kind)
{
	static const char *const names[] = {"other",        "file",          "pipe",
					    "tcp-socket",   "unix-socket",   "other-socket",
					    "terminal",     "memory-device", "character-device",
					    "block-device", "directory"};

	return NAME_OF(kind, names);
}

const char *fid_call_name(enum fid_call call)
{
	static const char *const names[] = {"none",
					    "fstat",
					    "fcntl",
					    "lseek",
					    "poll",
					    "pipe2",
					    "mmap",
					    "ioctl(FICLONE)",
					    "copy_file_range",
					    "sendfile",
					    "splice",
					    "read",
					    "write",
					    "tee",
					    "vmsplice"};

	return NAME_OF(call, names);
}

const char *fid_error_name(int error)
{
	static const struct {
		int number;
		const char *name;
	} errors[] = {
		{EACCES, "EACCES"},
		{EADDRINUSE, "EADDRINUSE"},
		{EADDRNOTAVAIL, "EADDRNOTAVAIL"},
		{EAGAIN, "EAGAIN"},
		{EBADF, "EBADF"},
		{EBUSY, "EBUSY"},
		{ECANCELED, "ECANCELED"},
		{ECONNABORTED, "ECONNABORTED"},
		{ECONNREFUSED, "ECONNREFUSED"},
		{ECONNRESET, "ECONNRESET"},
		{EDESTADDRREQ, "EDESTADDRREQ"},
		{EDOM, "EDOM"},
		{EDQUOT, "EDQUOT"},
		{EEXIST, "EEXIST"},
		{EFAULT, "EFAULT"},
		{EFBIG, "EFBIG"},
		{EHOSTUNREACH, "EHOSTUNREACH"},
		{EINTR, "EINTR"},
		{EINVAL, "EINVAL"},
		{EIO, "EIO"},
		{EISDIR, "EISDIR"},
		{ELOOP, "ELOOP"},
		{EMFILE, "EMFILE"},
		{EMSGSIZE, "EMSGSIZE"},
		{ENETUNREACH, "ENETUNREACH"},
		{ENFILE, "ENFILE"},
		{ENOBUFS, "ENOBUFS"},
		{ENODEV, "ENODEV"},
		{ENOENT, "ENOENT"},
		{ENOMEM, "ENOMEM"},
		{ENOSPC, "ENOSPC"},
		{ENOSYS, "ENOSYS"},
		{ENOTCONN, "ENOTCONN"},
		{ENOTDIR, "ENOTDIR"},
		{ENOTSOCK, "ENOTSOCK"},
		{ENOTTY, "ENOTTY"},
		{ENXIO, "ENXIO"},
		{EOPNOTSUPP, "EOPNOTSUPP"},
		{EOVERFLOW, "EOVERFLOW"},
		{EPERM, "EPERM"},
		{EPIPE, "EPIPE"},
		{EROFS, "EROFS"},
		{ESPIPE, "ESPIPE"},
		{ESTALE, "ESTALE"},
		{ETIMEDOUT, "ETIMEDOUT"},
		{ETXTBSY, "ETXTBSY"},
		{EXDEV, "EXDEV"},
		{E2BIG, "E2BIG"},
	};

	if (error == 0)
		return "none";
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].number == error || -errors[i].number == error)
			return errors[i].name;
	return "unknown";
}

/* "512 B", "1.5 KiB", "3.2 GiB". */
static void append_bytes(struct text *text, uint64_t bytes)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned unit = 0;
	uint64_t scaled = bytes;
	uint64_t tenths;

	if (bytes < 1024) {
		append(text, "%llu B", (unsigned long long)bytes);
		return;
	}
	while (scaled >= 1024 * 1024) {
		scaled /= 1024;
		unit++;
	}
	tenths = (scaled * 10 + 512) / 1024;
	if (tenths >= 10240 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		tenths = 10;
		unit++;
	}
	append(text, "%llu.%llu %s", (unsigned long long)(tenths / 10),
	       (unsigned long long)(tenths % 10), units[unit]);
}

static void append_seconds(struct text *text, uint64_t ns, bool for_people)
{
	unsigned long long seconds = ns / 1000000000;
	unsigned long long rest = ns % 1000000000;

	if (!for_people)
		append(text, "%llu.%09llu", seconds, rest);
	else if (seconds >= 10)
		append(text, "%llu.%llu s", seconds, rest / 100000000);
	else if (seconds || rest >= 100000000)
		append(text, "%llu.%02llu s", seconds, rest / 10000000);
	else if (rest >= 1000000)
		append(text, "%llu.%llu ms", rest / 1000000, rest / 100000 % 10);
	else
		append(text, "%llu us", rest / 1000);
}

static void append_classes(struct text *text, const struct fid_receipt *receipt)
{
	static const char *const words[FID_CLASSES] = {"by reference", "copied by the kernel",
						       "copied through this process"};
	const char *separator = "";

	for (unsigned i = 0; i < FID_CLASSES; i++) {
		if (!receipt->by_class[i])
			continue;
		append(text, "%s", separator);
		if (receipt->by_class[i] == receipt->bytes_out)
			append(text, "all ");
		else
			append_bytes(text, receipt->by_class[i]);
		append(text, "%s%s", receipt->by_class[i] == receipt->bytes_out ? "" : " ",
		       words[i]);
		separator = ", ";
	}
}

static void append_demotions(struct text *text, const struct fid_receipt *receipt)
{
	for (uint32_t i = 0; i < receipt->demotions && i < FID_DEMOTIONS_MAX; i++) {
		const struct fid_demotion *demotion = &receipt->demotion[i];

		append(text, "; %s ", fid_method_name(demotion->from));
		if (demotion->error && demotion->call == FID_CALL_PIPE)
			append(text, "got no pipe (%s)", fid_error_name(demotion->error));
		else if (demotion->error)
			append(text, "was refused (%s)", fid_error_name(demotion->error));
		else
			append(text, "stopped too early");
		if (demotion->at_bytes) {
			append(text, " after ");
			append_bytes(text, demotion->at_bytes);
		}
		append(text, ", so %s", fid_method_name(demotion->to));
	}
}

static void append_failure(struct text *text, const struct fid_receipt *receipt)
{
	append(text, "; ended by %s", fid_error_name(receipt->error));
	if (receipt->error_side == FID_SIDE_SOURCE || receipt->error_side == FID_SIDE_SINK)
		append(text, " at the %s", fid_side_name(receipt->error_side));
	if (receipt->error_call)
		append(text, " in %s", fid_call_name(receipt->error_call));
	if (receipt->require_unmet)
		append(text, ", and what is required forbids every other way");
}

/* A count that nothing has moved yet must not overflow what it is printed from. */
static uint64_t bytes_a_second(const struct fid_receipt *receipt)
{
	double rate = (double)receipt->bytes_out * 1e9 / (double)receipt->elapsed_ns;

	return rate < 1e18 ? (uint64_t)rate : UINT64_MAX;
}

int fid_receipt_text(const struct fid_receipt *receipt, char *buffer, size_t capacity)
{
	struct text text = {buffer, capacity, 0};

	append_bytes(&text, receipt->bytes_out);
	append(&text, " moved");
	if (receipt->elapsed_ns) {
		append(&text, " in ");
		append_seconds(&text, receipt->elapsed_ns, true);
		/* A rate over less than a millisecond measures the clock. */
		if (receipt->bytes_out && receipt->elapsed_ns >= 1000000) {
			append(&text, " (");
			append_bytes(&text, bytes_a_second(receipt));
			append(&text, "/s)");
		}
	}
	if (receipt->bytes_out) {
		append(&text, ", ");
		append_classes(&text, receipt);
		append(&text, " with %s", fid_method_name(receipt->route));
	}
	if (receipt->reason)
		append(&text, ": %s", receipt->reason);
	append_demotions(&text, receipt);
	if (receipt->source_changed == 1)
		append(&text, "; the source changed meanwhile");
	if (receipt->error)
		append_failure(&text, receipt);
	if (receipt->bytes_held) {
		append(&text, "; ");
		append_bytes(&text, receipt->bytes_held);
		append(&text, " taken and not delivered");
	}
	if (receipt->bytes_salvaged) {
		append(&text, "; ");
		append_bytes(&text, receipt->bytes_salvaged);
		append(&text, " salvaged");
	}
	append(&text, ".");
	return (int)text.length;
}

static void append_number(struct text *text, const char *key, uint64_t number)
{
	append(text, "\"%s\":%llu,", key, (unsigned long long)number);
}

/* A name in quotes, or null. Names and reasons are fid's own and need no escapes. */
static void append_name(struct text *text, const char *key, const char *name)
{
	if (name)
		append(text, "\"%s\":\"%s\"", key, name);
	else
		append(text, "\"%s\":null", key);
}

static void append_methods(struct text *text, const char *key,
			   const uint64_t numbers[FID_METHODS_MAX])
{
	append(text, "\"%s\":{", key);
	for (unsigned i = 0; i < FID_METHODS; i++)
		append(text, "%s\"%s\":%llu", i ? "," : "", fid_method_name(i),
		       (unsigned long long)numbers[i]);
	append(text, "},");
}

int fid_receipt_json(const struct fid_receipt *receipt, char *buffer, size_t capacity)
{
	static const char *const truth[] = {"null", "false", "true"};
	struct text text = {buffer, capacity, 0};
	bool failed = receipt->error != 0;

	append(&text, "{");
	append_number(&text, "bytes_in", receipt->bytes_in);
	append_number(&text, "bytes_out", receipt->bytes_out);
	append_number(&text, "bytes_held", receipt->bytes_held);
	append_number(&text, "bytes_salvaged", receipt->bytes_salvaged);
	append_number(&text, "by_reference", receipt->by_class[FID_BY_REFERENCE]);
	append_number(&text, "kernel_copy", receipt->by_class[FID_KERNEL_COPY]);
	append_number(&text, "user_copy", receipt->by_class[FID_USER_COPY]);
	append_name(&text, "route", fid_method_name(receipt->route));
	append(&text, ",");
	append_name(&text, "reason", receipt->reason);
	append(&text, ",\"demotions\":[");
	for (uint32_t i = 0; i < receipt->demotions && i < FID_DEMOTIONS_MAX; i++) {
		const struct fid_demotion *demotion = &receipt->demotion[i];

		append(&text, "%s{", i ? "," : "");
		append_name(&text, "from", fid_method_name(demotion->from));
		append(&text, ",");
		append_name(&text, "to", fid_method_name(demotion->to));
		append(&text, ",");
		append_name(&text, "call", fid_call_name(demotion->call));
		append(&text, ",");
		append_name(&text, "side", fid_side_name(demotion->side));
		append(&text, ",");
		append_name(&text, "error",
			    demotion->error ? fid_error_name(demotion->error) : NULL);
		append(&text, ",\"at_bytes\":%llu}", (unsigned long long)demotion->at_bytes);
	}
	append(&text, "],");
	append_methods(&text, "bytes", receipt->by_method);
	append_methods(&text, "calls", receipt->calls);
	append_number(&text, "waits", receipt->waits);
	append_number(&text, "pipe_bytes", receipt->pipe_bytes);
	append_number(&text, "pipe_bytes_asked", receipt->pipe_bytes_asked);
	append(&text, "\"stable\":%s,", truth[receipt->stable ? 2 : 1]);
	append(&text, "\"source_changed\":%s,",
	       truth[receipt->source_changed < 0 ? 0 : 1 + (receipt->source_changed != 0)]);
	append(&text, "\"require_met\":%s,", truth[receipt->require_unmet ? 1 : 2]);
	append(&text, "\"seconds\":");
	append_seconds(&text, receipt->elapsed_ns, false);
	append(&text, ",");
	append_name(&text, "error", failed ? fid_error_name(receipt->error) : NULL);
	append(&text, ",\"error_number\":%lld,", -(long long)receipt->error);
	append_name(&text, "error_side", failed ? fid_side_name(receipt->error_side) : NULL);
	append(&text, ",");
	append_name(&text, "error_call", failed ? fid_call_name(receipt->error_call) : NULL);
	append(&text, "}");
	return (int)text.length;
}
