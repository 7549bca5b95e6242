/* SPDX-License-Identifier: MIT */
/*
 * One sample: an entrant moves the bytes of a pair once, with a producer and a consumer if the
 * pair needs them, and what it used is read from the kernel.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <fid.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_S = 120, NOT_INSTALLED = 127 };

/* What the children of one sample tell the parent, in shared memory. */
struct account {
	double cpu_s;
	uint64_t consumed;
	int error;
};

static struct account *account;

/* One sample in the making. */
struct setting {
	const struct pair *pair;
	const struct entrant *entrant;
	uint64_t volume;
	unsigned times; /* the source file is moved so many times */
	char sink_path[4096];
	int source, sink; /* of the mover */
	int feed;         /* the producer's end, or -1 */
	int drain;        /* the consumer's end, or -1 */
	const char *argv[ARGUMENTS_MAX];
};

static double seconds_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double seconds_now(void)
{
	return seconds_of(CLOCK_MONOTONIC);
}

double seconds_of_cpu(void)
{
	return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

/*
 * The setting in a process of its own, with nothing open but its two ends. It dies with this
 * process, and on its own when something hangs.
 */
static pid_t child(int source, int sink, void (*run)(struct setting *), struct setting *setting)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(PATIENCE_S);
	dup2(source < 0 ? open("/dev/null", O_RDONLY) : source, 0);
	dup2(sink < 0 ? open("/dev/null", O_WRONLY) : sink, 1);
	close_range(3, ~0u, 0);
	run(setting);
	_exit(0);
}

static void produce(struct setting *setting)
{
	static char buffer[256 * KIB];

	memset(buffer, 'f', sizeof(buffer));
	for (uint64_t left = setting->volume; left > 0;) {
		ssize_t put = write(1, buffer, left < sizeof(buffer) ? left : sizeof(buffer));

		if (put < 0)
			return;
		left -= (uint64_t)put;
	}
}

static void consume(struct setting *setting)
{
	static char buffer[256 * KIB];
	ssize_t got;

	do {
		if (setting->pair->reader == READER_SPLICES)
			got = splice(0, NULL, 1, NULL, MIB, 0);
		else
			got = read(0, buffer, sizeof(buffer));
		account->consumed += got > 0 ? (uint64_t)got : 0;
	} while (got > 0);
}

static void move_in_process(struct setting *setting)
{
	static const struct loop read_write = {LOOP_READ_WRITE, 128 * KIB};
	static const struct loop read_write_stream = {LOOP_READ_WRITE, 256 * KIB};
	const struct pair *pair = setting->pair;
	const struct fid_options options = {
		.size = sizeof(options),
		.flags = pair->library_flags,
	};
	double before = seconds_of_cpu();

	for (unsigned i = 0; i < setting->times && account->error == 0; i++) {
		int64_t moved = 0;

		if (pair->source == END_FILE)
			lseek(0, 0, SEEK_SET);
		if (setting->entrant->kind == ENTRANT_LIBRARY)
			moved = fid_copy(0, 1, &options, NULL);
		else if (setting->entrant->kind == ENTRANT_HAND)
			moved = loop_run(pair, &pair->hand);
		else
			moved = loop_run(pair, pair->source == END_FILE ? &read_write
									: &read_write_stream);
		account->error = moved < 0 ? (int)-moved : 0;
	}
	account->cpu_s = seconds_of_cpu() - before;
}

static void move_by_command(struct setting *setting)
{
	/* execvp() does not change them, and its prototype is older than const. */
	union {
		const char **fixed;
		char **loose;
	} argv = {setting->argv};

	execvp(argv.loose[0], argv.loose);
	_exit(NOT_INSTALLED);
}

static void make_pipe(size_t capacity, int *ret_read_end, int *ret_write_end)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		fail("pipe2");
	if (capacity && fcntl(ends[1], F_SETPIPE_SZ, (int)capacity) < 0)
		fail("F_SETPIPE_SZ");
	*ret_read_end = ends[0];
	*ret_write_end = ends[1];
}

static void make_connection(int *ret_read_end, int *ret_write_end)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*ret_write_end = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || *ret_write_end < 0 ||
	    bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) < 0 ||
	    connect(*ret_write_end, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail("a connection over loopback");
	*ret_read_end = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (*ret_read_end < 0)
		fail("accept4");
	close(listener);
}

static void make_source(struct setting *setting)
{
	const struct pair *pair = setting->pair;

	if (pair->source == END_PIPE)
		make_pipe(pair->source_pipe, &setting->source, &setting->feed);
	else if (pair->source == END_TCP)
		make_connection(&setting->source, &setting->feed);
	else
		setting->source = open(bench.source_path, O_RDONLY | O_CLOEXEC);
	if (setting->source < 0)
		fail(bench.source_path);
}

static bool is_file(enum end end)
{
	return end == END_FILE || end == END_MEMORY;
}

static void make_sink(struct setting *setting)
{
	const struct pair *pair = setting->pair;

	if (pair->sink == END_PIPE)
		make_pipe(pair->sink_pipe, &setting->drain, &setting->sink);
	else if (pair->sink == END_TCP)
		make_connection(&setting->drain, &setting->sink);
	else if (is_file(pair->source) && setting->entrant->names_files)
		return;
	else
		setting->sink =
			open(setting->sink_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (setting->sink < 0)
		fail(setting->sink_path);
}

/* What arrived at a file. Its pages are dropped before they need to be written back. */
static uint64_t end_file(const char *path)
{
	struct stat stat;

	if (lstat(path, &stat) < 0)
		return 0;
	unlink(path);
	return (uint64_t)stat.st_size;
}

static void describe_failure(const struct setting *setting, int status, struct sample *sample)
{
	char *to = sample->failure;

	if (setting->entrant->command && WIFEXITED(status) &&
	    WEXITSTATUS(status) == NOT_INSTALLED)
		snprintf(to, sizeof(sample->failure), "not installed");
	else if (WIFSIGNALED(status))
		snprintf(to, sizeof(sample->failure), "ended by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		snprintf(to, sizeof(sample->failure), "exit status %d", WEXITSTATUS(status));
	else if (account->error)
		snprintf(to, sizeof(sample->failure), "%s", strerrorname_np(account->error));
	else if (sample->bytes != setting->volume)
		snprintf(to, sizeof(sample->failure), "delivered %llu of %llu bytes",
			 (unsigned long long)sample->bytes,
			 (unsigned long long)setting->volume);
}

static void run_setting(struct setting *setting, struct sample *ret_sample)
{
	bool is_command = setting->entrant->command != NULL;
	struct rusage usage;
	pid_t mover;
	int status;
	double begin;

	if (!account)
		account = mmap(NULL, sizeof(*account), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (account == MAP_FAILED)
		fail("mmap");
	memset(account, 0, sizeof(*account));
	*ret_sample = (struct sample){0};
	if (setting->drain >= 0)
		child(setting->drain, -1, consume, setting);
	begin = seconds_now();
	if (setting->feed >= 0)
		child(-1, setting->feed, produce, setting);
	mover = child(setting->source, setting->sink,
		      is_command ? move_by_command : move_in_process, setting);
	close(setting->source);
	if (setting->feed >= 0)
		close(setting->feed);
	if (setting->drain >= 0)
		close(setting->drain);
	if (setting->sink >= 0)
		close(setting->sink);
	if (wait4(mover, &status, 0, &usage) != mover)
		fail("wait4");
	/* The producer and the consumer have ends of the same streams and so end with it. */
	while (wait(NULL) > 0)
		;
	ret_sample->wall_s = seconds_now() - begin;
	ret_sample->cpu_s = account->cpu_s;
	if (is_command)
		ret_sample->cpu_s =
			(double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
	ret_sample->bytes = is_file(setting->pair->sink) ? end_file(setting->sink_path)
							 : account->consumed;
	describe_failure(setting, status, ret_sample);
}

bool sample_take(const struct pair *pair, const struct entrant *entrant,
		 struct sample *ret_sample)
{
	struct setting setting = {
		.pair = pair, .entrant = entrant, .sink = -1, .feed = -1, .drain = -1};
	unsigned more = entrant->splices ? pair->splicing_times : 1;

	setting.times = pair->source == END_FILE ? more : 1;
	setting.volume = (uint64_t)bench.volume * more;
	if (is_file(pair->sink))
		snprintf(setting.sink_path, sizeof(setting.sink_path), "%s/sink",
			 pair->sink == END_FILE ? bench.dir : bench.memory_dir);
	if (entrant->command && !entrant->command(pair, setting.times, bench.source_path,
						  setting.sink_path, setting.argv))
		return false;
	make_source(&setting);
	make_sink(&setting);
	run_setting(&setting, ret_sample);
	return true;
}
