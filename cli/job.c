/* SPDX-License-Identifier: MIT */
#include "job.h"

#include "command.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

int job_misused(const struct job *job, const char *format, ...)
{
	char text[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	print_error("%s", text);
	print_hint("see 'fid help %s'", job->command);
	return STATUS_USAGE;
}

/* A size as people write it. Returns false when it is none or does not fit. */
static bool parse_size(const char *text, uint64_t *ret_bytes)
{
	static const struct {
		const char *name;
		uint64_t bytes;
	} units[] = {
		{"", 1},
		{"B", 1},
		{"K", (uint64_t)1 << 10},
		{"KiB", (uint64_t)1 << 10},
		{"M", (uint64_t)1 << 20},
		{"MiB", (uint64_t)1 << 20},
		{"G", (uint64_t)1 << 30},
		{"GiB", (uint64_t)1 << 30},
		{"T", (uint64_t)1 << 40},
		{"TiB", (uint64_t)1 << 40},
		{"KB", 1000},
		{"MB", 1000000},
		{"GB", 1000000000},
		{"TB", 1000000000000},
	};
	uint64_t value = 0;

	/* strtoull() takes signs, spaces and, without a look at errno, anything. */
	if (!isdigit((unsigned char)*text))
		return false;
	for (; isdigit((unsigned char)*text); text++)
		if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcasecmp(text, units[i].name) == 0)
			return !__builtin_mul_overflow(value, units[i].bytes, ret_bytes);
	return false;
}

/* One wish among names; where it stands in the list, or -1. '_' and '-' are the same. */
static int choose(const char *wish, size_t length, const char *const *names, int count)
{
	for (int i = 0; i < count; i++) {
		size_t j = 0;

		while (j < length && names[i][j] &&
		       (wish[j] == '_' ? '-' : wish[j]) ==
			       (names[i][j] == '_' ? '-' : names[i][j]))
			j++;
		if (j == length && !names[i][j])
			return i;
	}
	return -1;
}

/* "splice,read-write" */
static bool parse_routes(struct job *job, const char *wishes)
{
	const char *names[FID_ROUTES];
	char known[256] = "";

	for (int i = 0; i < FID_ROUTES; i++)
		names[i] = fid_method_name((enum fid_method)i);
	while (wishes) {
		size_t length = strcspn(wishes, ",");
		int method = choose(wishes, length, names, FID_ROUTES);

		if (method < 0) {
			char shown[128];

			for (int i = 0; i < FID_ROUTES; i++)
				snprintf(known + strlen(known), sizeof(known) - strlen(known),
					 "%s%s", i ? ", " : "", names[i]);
			print_name(shown, sizeof(shown), wishes);
			print_error("no route is called '%.*s'", (int)length, shown);
			print_hint("the routes are %s", known);
			return false;
		}
		job->routes |= FID_ROUTE(method);
		wishes = wishes[length] ? wishes + length + 1 : NULL;
	}
	return true;
}

static bool parse_require(struct job *job, const char *wish)
{
	static const char *const names[] = {"by-reference", "no-user-copy"};
	static const uint32_t values[] = {FID_REQUIRE_BY_REFERENCE, FID_REQUIRE_NO_USER_COPY};
	char shown[128];
	int found = choose(wish, strlen(wish), names, 2);

	if (found < 0) {
		job_misused(job, "--require wants by-reference or no-user-copy, not '%s'",
			    print_name(shown, sizeof(shown), wish));
		return false;
	}
	job->require = values[found];
	return true;
}

/* "2", "0.25": milliseconds, and more than none. Returns 0 when it is nothing such. */
static uint32_t parse_seconds(const char *text)
{
	uint64_t value = 0;
	unsigned weight = 1000;

	if (*text < '0' || *text > '9')
		return 0;
	for (; *text >= '0' && *text <= '9'; text++) {
		value = value * 10 + (uint64_t)(*text - '0') * 1000;
		if (value > UINT32_MAX)
			return 0;
	}
	if (*text == '.')
		for (text++; *text >= '0' && *text <= '9'; text++)
			value += (weight /= 10) * (uint64_t)(*text - '0');
	return *text || value > UINT32_MAX ? 0 : (uint32_t)value;
}

bool job_parse_seconds(const struct job *job, const char *option, const char *text,
		       uint32_t *ret_ms)
{
	char shown[128];

	*ret_ms = parse_seconds(text);
	if (*ret_ms > 0)
		return true;
	job_misused(job, "%s wants seconds such as 2 or 0.25, not '%s'", option,
		    print_name(shown, sizeof(shown), text));
	return false;
}

static bool parse_receipt(struct job *job, const char *wish)
{
	char shown[128];

	if (!wish || strcmp(wish, "text") == 0) {
		job->receipt = RECEIPT_TEXT;
	} else if (strcmp(wish, "json") == 0) {
		job->receipt = RECEIPT_JSON;
	} else {
		job_misused(job, "--receipt=%s: want text or json",
			    print_name(shown, sizeof(shown), wish));
		return false;
	}
	return true;
}

bool job_parse_size(const char *option, const char *text, uint64_t most, uint64_t *ret_bytes)
{
	char shown[128];

	if (parse_size(text, ret_bytes) && *ret_bytes <= most)
		return true;
	print_error("%s: '%s' is no size, or too large a one", option,
		    print_name(shown, sizeof(shown), text));
	print_hint("sizes are written 4096, 64K or 64KiB (1024 each), 64KB (1000 each); and M, "
		   "G, T");
	return false;
}

/* "10M", and "10M/s" as well, which is how rates are shown. */
static bool parse_rate(struct job *job, const char *text)
{
	size_t length = strlen(text);
	char size[64];

	if (length > 2 && length < sizeof(size) && strcasecmp(text + length - 2, "/s") == 0)
		length -= 2;
	snprintf(size, sizeof(size), "%.*s", (int)length, text);
	if (!job_parse_size("--rate-limit", length < sizeof(size) ? size : text, INT64_MAX,
			    &job->rate))
		return false;
	if (job->rate > 0)
		return true;
	job_misused(job, "--rate-limit: at no bytes a second nothing would ever move");
	return false;
}

static bool parse_digest(struct job *job, const char *wish)
{
	char shown[128];

	job->digest = digest_find(wish);
	if (job->digest)
		return true;
	job_misused(job, "--digest wants %s, not '%s'", digest_names,
		    print_name(shown, sizeof(shown), wish));
	return false;
}

/* What --digest needs, before anything is opened. Returns an exit status. */
static int check_digest(const struct job *job)
{
	if (!job->digest)
		return STATUS_DONE;
	if (job->sparse)
		return job_misused(job, "--digest and --sparse do not go together: holes are "
					"not moved, and a digest of the rest is of no use");
	if (job->routes && job->routes != FID_ROUTE(FID_READ_WRITE))
		return job_misused(job, "--route: with --digest only read-write can be asked "
					"for");
	return digest_load(job->digest) ? STATUS_DONE : STATUS_FAILED;
}

enum {
	OPTION_RECEIPT = 256,
	OPTION_RECEIPT_FILE,
	OPTION_PROGRESS,
	OPTION_NO_PROGRESS,
	OPTION_STABLE,
	OPTION_ROUTE,
	OPTION_REQUIRE,
	OPTION_LIMIT,
	OPTION_OFFSET,
	OPTION_RATE_LIMIT,
	OPTION_DIGEST,
	OPTION_PIPE_SIZE,
	OPTION_APPEND,
	OPTION_SPARSE,
	OPTION_SYNC,
	OPTION_IDLE_TIMEOUT,
	OPTION_NAME,
	OPTION_VERSION,
};

static const struct option options[] = {
	{"receipt", optional_argument, NULL, OPTION_RECEIPT},
	{"receipt-file", required_argument, NULL, OPTION_RECEIPT_FILE},
	{"progress", no_argument, NULL, OPTION_PROGRESS},
	{"no-progress", no_argument, NULL, OPTION_NO_PROGRESS},
	{"stable", no_argument, NULL, OPTION_STABLE},
	{"route", required_argument, NULL, OPTION_ROUTE},
	{"require", required_argument, NULL, OPTION_REQUIRE},
	{"limit", required_argument, NULL, OPTION_LIMIT},
	{"offset", required_argument, NULL, OPTION_OFFSET},
	{"rate-limit", required_argument, NULL, OPTION_RATE_LIMIT},
	{"digest", required_argument, NULL, OPTION_DIGEST},
	{"pipe-size", required_argument, NULL, OPTION_PIPE_SIZE},
	{"append", no_argument, NULL, OPTION_APPEND},
	{"sparse", no_argument, NULL, OPTION_SPARSE},
	{"sync", no_argument, NULL, OPTION_SYNC},
	{"idle-timeout", required_argument, NULL, OPTION_IDLE_TIMEOUT},
	{"name", required_argument, NULL, OPTION_NAME},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, OPTION_VERSION},
	{0},
};

/* Takes one option. Returns false after a message. */
static bool take(struct job *job, int option)
{
	switch (option) {
	case OPTION_RECEIPT:
		return parse_receipt(job, optarg);
	case OPTION_RECEIPT_FILE:
		job->receipt_path = optarg;
		return true;
	case OPTION_PROGRESS:
		job->progress = PROGRESS_ALWAYS;
		return true;
	case OPTION_NO_PROGRESS:
		job->progress = PROGRESS_NEVER;
		return true;
	case OPTION_STABLE:
		job->flags |= FID_STABLE;
		return true;
	case OPTION_ROUTE:
		return parse_routes(job, optarg);
	case OPTION_REQUIRE:
		return parse_require(job, optarg);
	case OPTION_LIMIT:
		job->limit_given = true;
		return job_parse_size("--limit", optarg, UINT64_MAX, &job->limit);
	case OPTION_OFFSET:
		job->offset_given = true;
		return job_parse_size("--offset", optarg, INT64_MAX, &job->offset);
	case OPTION_RATE_LIMIT:
		return parse_rate(job, optarg);
	case OPTION_DIGEST:
		return parse_digest(job, optarg);
	case OPTION_PIPE_SIZE:
		if (!job_parse_size("--pipe-size", optarg, (uint64_t)1 << 30, &job->pipe_bytes))
			return false;
		if (job->pipe_bytes > 0)
			return true;
		job_misused(job, "--pipe-size: a pipe has at least one byte");
		return false;
	case OPTION_SPARSE:
		job->sparse = true;
		return true;
	case OPTION_SYNC:
		job->sync = true;
		return true;
	case OPTION_IDLE_TIMEOUT:
		return job_parse_seconds(job, "--idle-timeout", optarg, &job->idle_ms);
	case OPTION_NAME:
		job->label = optarg;
		return true;
	default:
		job->append = true;
		return true;
	}
}

/* Why the command does not take that option; NULL: it does. */
static const char *refusal(const struct job *job, const char *option)
{
	for (const struct job_refusal *one = job->refused; one && one->option; one++)
		if (strcmp(one->option, option) == 0)
			return one->why;
	return NULL;
}

int job_option_misused(const struct job *job, const struct option *known, int option,
		       const char *argument)
{
	const char *names[JOB_OPTIONS_MAX], *nearest;
	char shown[256];
	size_t count = 0;

	print_name(shown, sizeof(shown), argument);
	if (option == ':')
		return job_misused(job, "the option '%s' wants a value", shown);
	if (strncmp(argument, "--", 2) != 0)
		return job_misused(job, "there is no option '-%c'",
				   isprint(optopt) ? optopt : '?');
	/* getopt_long() knows the option whose value is too much. */
	if (optopt)
		return job_misused(job, "the option '%.*s' takes no value",
				   (int)strcspn(shown, "="), shown);
	for (; known->name && count < JOB_OPTIONS_MAX; known++)
		if (!refusal(job, known->name))
			names[count++] = known->name;
	shown[strcspn(shown, "=")] = '\0';
	nearest = nearest_word(shown + 2, names, count);
	if (!nearest)
		return job_misused(job, "there is no option '%s'", shown);
	print_error("there is no option '%s'", shown);
	print_hint("did you mean '--%s'?", nearest);
	return STATUS_USAGE;
}

/* The options that all share, and the command's own behind them. */
static void list_options(const struct job *job, struct option all[JOB_OPTIONS_MAX])
{
	size_t count = sizeof(options) / sizeof(options[0]) - 1;

	memcpy(all, options, count * sizeof(*all));
	for (const struct option *own = job->own ? job->own->options : NULL; own && own->name;
	     own++) {
		assert(count < JOB_OPTIONS_MAX - 1);
		all[count++] = *own;
	}
	all[count] = (struct option){0};
}

static bool is_own(const struct job *job, int option)
{
	return job->own && (option >= JOB_OWN ||
			    (option < OPTION_RECEIPT && strchr(job->own->letters, option)));
}

int job_parse(struct job *job, int argc, char **argv, int *ret_status)
{
	struct option all[JOB_OPTIONS_MAX];
	char letters[32];
	int option, which = -1;

	list_options(job, all);
	snprintf(letters, sizeof(letters), ":h%s", job->own ? job->own->letters : "");
	opterr = 0;
	while ((option = getopt_long(argc, argv, letters, all, &which)) != -1) {
		const char *why = which >= 0 ? refusal(job, all[which].name) : NULL;

		which = -1;
		*ret_status = STATUS_USAGE;
		if (option == '?' || option == ':') {
			job_option_misused(job, all, option, argv[optind - 1]);
			return -1;
		}
		if (why) {
			job_misused(job, "%s", why);
			return -1;
		}
		if (option == 'h' || option == OPTION_VERSION) {
			bool printed = option == 'h' ? print_text(STDOUT_FILENO, job->help)
						     : print_version();

			*ret_status = printed ? STATUS_DONE : STATUS_FAILED;
			return -1;
		}
		if (!(is_own(job, option) ? job->own->take(job, option) : take(job, option)))
			return -1;
	}
	if (job->receipt_path && job->receipt == RECEIPT_NONE)
		job->receipt = RECEIPT_TEXT;
	*ret_status = check_digest(job);
	return *ret_status == STATUS_DONE ? optind : -1;
}

struct fid_options job_flow_options(const struct job *job, uint64_t limit)
{
	struct fid_options flow = {
		.size = sizeof(flow),
		.flags = job->flags | FID_INTERRUPTIBLE | FID_GROW_PIPES |
			 (job->rate > 0 ? FID_PACED : 0),
		.routes = job->routes,
		.require = job->require,
		.pipe_bytes = job->pipe_bytes,
	};

	if (job->offset_given) {
		flow.flags |= FID_SOURCE_OFFSET;
		flow.source_offset = job->offset;
	}
	if (limit != UINT64_MAX) {
		flow.flags |= limit == 0 ? FID_LIMIT_ZERO : 0;
		flow.bytes_max = limit;
	}
	return flow;
}

bool job_open_receipt(struct job *job)
{
	const int flags = O_WRONLY | O_CLOEXEC | O_NOCTTY;

	job->receipt_fd = STDERR_FILENO;
	if (!job->receipt_path)
		return true;
	if (strcmp(job->receipt_path, "-") == 0) {
		job->receipt_fd = STDOUT_FILENO;
		return true;
	}
	/* Emptied only when the receipt is written: until then it may prove to be the source.
	 */
	job->receipt_fd = open(job->receipt_path, flags);
	if (job->receipt_fd < 0 && errno == ENOENT) {
		job->receipt_fd = open(job->receipt_path, flags | O_CREAT | O_EXCL, 0666);
		job->receipt_created = job->receipt_fd >= 0;
		/* A link to nothing, or somebody was faster. */
		if (job->receipt_fd < 0 && errno == EEXIST)
			job->receipt_fd = open(job->receipt_path, flags | O_CREAT, 0666);
	}
	if (job->receipt_fd < 0) {
		char shown[512];
		int error = errno;

		print_error("%s (receipt): %s",
			    print_name(shown, sizeof(shown), job->receipt_path),
			    strerror(error));
		if (error == ENOENT)
			print_hint("its folder must exist");
		else
			print_hint_for(error, FID_SIDE_NONE);
		return false;
	}
	return true;
}

void job_empty_receipt(const struct job *job)
{
	if (job->receipt_path && job->receipt_fd != STDOUT_FILENO &&
	    ftruncate(job->receipt_fd, 0) < 0)
		errno = 0; /* a pipe or a terminal: nothing to empty */
}

int job_end(const struct job *job, int status)
{
	struct stat ours, there;

	if (job->receipt_created && fstat(job->receipt_fd, &ours) == 0 && ours.st_size == 0 &&
	    lstat(job->receipt_path, &there) == 0 && there.st_dev == ours.st_dev &&
	    there.st_ino == ours.st_ino)
		unlink(job->receipt_path);
	return status;
}

bool job_receipt_meets(const struct job *job, const struct endpoint *endpoint)
{
	struct stat stat;

	/* Devices are meant to be shared: a terminal, /dev/null. */
	return job->receipt_path && fstat(job->receipt_fd, &stat) == 0 &&
	       !S_ISCHR(stat.st_mode) && endpoint_is(endpoint, &stat);
}
