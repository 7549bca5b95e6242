/* SPDX-License-Identifier: MIT */
/*
 * The simulated kernel answers as the real one does. Scripts and random sequences of calls are
 * made on both, and every answer, offset, size and byte is compared.
 */
#include "sim.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* The descriptors of a script. */
enum slot {
	PIPE_OUT, /* a pipe: its read end, its write end */
	PIPE_IN,
	FULL_OUT, /* another one */
	FULL_IN,
	WAIT_OUT, /* a pipe that blocks */
	WAIT_IN,
	FILE_A, /* a file of FILE_BYTES, read and write */
	FILE_B, /* an empty file, read and write */
	APPEND, /* the same file with O_APPEND */
	NULL_DEVICE,
	FULL_DEVICE,
	SOCKET_A,
	SOCKET_B,
	FOLDER,
	SLOTS,
};

enum { FILE_BYTES = 100001, BUFFER = 1 << 17 };

enum what {
	END = 0,
	READ,
	WRITE,
	SEND,
	SPLICE,
	TEE,
	SENDFILE,
	COPY,
	SEEK,
	SIZE,
	POLL,
	RESIZE,
	CAPACITY,
	CLOSE,
	FLAGS,
	VMSPLICE,
};

#define OWN FID_OWN_OFFSET

struct step {
	enum what what;
	int a; /* a slot: the only descriptor, or the source */
	int b; /* the sink */
	int64_t bytes;
	int64_t from; /* offsets: OWN or where */
	int64_t to;
	unsigned flags;
};

/* What a call answered. */
struct answer {
	int64_t result;
	int64_t from;
	int64_t to;
	uint64_t digest;
};

/* One kernel and its descriptors. */
struct side {
	struct fid_kernel *kernel;
	int fd[SLOTS];
	bool closed[SLOTS];
	uint64_t random; /* for what is written: the same on both sides */
	unsigned char *buffer;
};

static uint64_t digest(const unsigned char *bytes, int64_t count)
{
	uint64_t hash = 14695981039346656037u;

	for (int64_t i = 0; i < count; i++)
		hash = (hash ^ bytes[i]) * 1099511628211u;
	return hash;
}

static void fill(struct side *side, int64_t bytes)
{
	for (int64_t i = 0; i < bytes; i += 8) {
		uint64_t word = test_random(&side->random);

		memcpy(side->buffer + i, &word, sizeof(word));
	}
}

/* The real kernel's poll says more kinds of "readable" than matter here. */
static int64_t poll_once(struct side *side, const struct step *step)
{
	struct pollfd wait = {.fd = side->fd[step->a], .events = POLLIN | POLLOUT | POLLRDHUP};
	int ready = side->kernel->poll(side->kernel, &wait, 1, 0);

	return ready < 0 ? ready : wait.revents & (POLLIN | POLLOUT | POLLERR | POLLHUP);
}

static struct answer make(struct side *side, const struct step *step)
{
	struct fid_kernel *kernel = side->kernel;
	struct answer answer = {.from = step->from, .to = step->to};
	int64_t *from = step->from == OWN ? NULL : &answer.from;
	int64_t *to = step->to == OWN ? NULL : &answer.to;
	int a = side->fd[step->a];
	int b = side->fd[step->b];
	size_t bytes = (size_t)step->bytes;
	struct iovec segment = {.iov_base = side->buffer, .iov_len = bytes};
	struct fid_stat stat;

	switch (step->what) {
	case READ:
		answer.result = kernel->read(kernel, a, side->buffer, bytes, step->from);
		answer.digest = digest(side->buffer, answer.result);
		break;
	case WRITE:
		fill(side, step->bytes);
		answer.result = kernel->write(kernel, a, side->buffer, bytes, step->from, 0);
		break;
	case SEND:
		fill(side, step->bytes);
		answer.result = kernel->write(kernel, a, side->buffer, bytes, OWN,
					      FID_WRITE_SOCKET | FID_WRITE_NOWAIT);
		break;
	case SPLICE:
		answer.result = kernel->splice(kernel, a, from, b, to, bytes, step->flags);
		break;
	case TEE:
		answer.result = kernel->tee(kernel, a, b, bytes, step->flags);
		break;
	case VMSPLICE:
		fill(side, step->bytes);
		answer.result = kernel->vmsplice(kernel, a, &segment, 1, step->flags);
		break;
	case SENDFILE:
		answer.result = kernel->sendfile(kernel, a, from, b, bytes);
		break;
	case COPY:
		answer.result = kernel->copy_file_range(kernel, a, from, b, to, bytes);
		break;
	case SEEK:
		answer.result = kernel->seek(kernel, a, step->from, (int)step->flags);
		break;
	case SIZE:
		answer.result = kernel->stat(kernel, a, &stat);
		answer.from = stat.size;
		answer.to = stat.mode & S_IFMT;
		break;
	case POLL:
		answer.result = poll_once(side, step);
		break;
	case RESIZE:
		answer.result = kernel->pipe_resize(kernel, a, bytes);
		break;
	case CAPACITY:
		answer.result = kernel->pipe_size(kernel, a);
		break;
	case FLAGS:
		answer.result = kernel->status_flags(kernel, a) &
				(O_ACCMODE | O_APPEND | O_NONBLOCK);
		break;
	default:
		break;
	}
	return answer;
}

static void open_real(struct side *side, const unsigned char *contents)
{
	char path[64];
	int file;

	side->kernel = fid_linux();
	CHECK(pipe2(&side->fd[PIPE_OUT], O_NONBLOCK | O_CLOEXEC) == 0);
	CHECK(pipe2(&side->fd[FULL_OUT], O_NONBLOCK | O_CLOEXEC) == 0);
	CHECK(pipe2(&side->fd[WAIT_OUT], O_CLOEXEC) == 0);
	side->fd[FILE_A] = memfd_create("a", MFD_CLOEXEC);
	side->fd[FILE_B] = file = memfd_create("b", MFD_CLOEXEC);
	CHECK(side->fd[FILE_A] >= 0 && file >= 0);
	CHECK(pwrite(side->fd[FILE_A], contents, FILE_BYTES, 0) == FILE_BYTES);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	side->fd[APPEND] = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
	if (side->fd[APPEND] < 0)
		SKIP("/proc is not there to open a file again");
	side->fd[NULL_DEVICE] = open("/dev/null", O_RDWR | O_CLOEXEC);
	side->fd[FULL_DEVICE] = open("/dev/full", O_RDWR | O_CLOEXEC);
	if (side->fd[NULL_DEVICE] < 0 || side->fd[FULL_DEVICE] < 0)
		SKIP("/dev/null and /dev/full are not there");
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
			 &side->fd[SOCKET_A]) == 0);
	side->fd[FOLDER] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(side->fd[FOLDER] >= 0);
}

static void open_simulated(struct side *side, struct sim *sim)
{
	side->kernel = &sim->kernel;
	sim_pipe_pair(sim, &side->fd[PIPE_OUT], O_NONBLOCK);
	sim_pipe_pair(sim, &side->fd[FULL_OUT], O_NONBLOCK);
	sim_pipe_pair(sim, &side->fd[WAIT_OUT], 0);
	side->fd[FILE_A] = sim_regular(sim, FILE_BYTES, O_RDWR);
	side->fd[FILE_B] = sim_regular(sim, 0, O_RDWR);
	side->fd[APPEND] = sim_reopen(sim, side->fd[FILE_B], O_RDWR | O_APPEND);
	side->fd[NULL_DEVICE] = sim_device(sim, SIM_NULL, O_RDWR);
	side->fd[FULL_DEVICE] = sim_device(sim, SIM_FULL, O_RDWR);
	sim_socket_pair(sim, &side->fd[SOCKET_A], O_NONBLOCK);
	side->fd[FOLDER] = sim_device(sim, SIM_DIRECTORY, O_RDONLY);
	/* Both processes ignore SIGPIPE in these tests. */
	sim->sigpipe_blocked = true;
}

struct both {
	struct sim *sim;
	struct side real;
	struct side simulated;
	unsigned char *contents;
};

/* The simulator in its plain world is a stock kernel that allows everything. */
static void need_stock_kernel(void)
{
	static struct fid_facts facts;

	CHECK(fid_probe(&facts, 0) == 0);
	if (facts.splice || facts.tee || facts.vmsplice || facts.sendfile ||
	    facts.copy_file_range)
		SKIP("this kernel or container refuses some of the calls");
	if (facts.splice_empty_is_eof)
		SKIP("this kernel says 0 for an empty pipe");
	if (facts.pipe_bytes != SIM_SLOTS * SIM_PAGE || facts.pipe_bytes_grown < 1 << 20)
		SKIP("pipes are not 64 KiB, or the budget of pipes is gone");
	if (facts.vmsplice_meaning != FID_VMSPLICE_BY_REFERENCE)
		SKIP("vmsplice copies here");
	if (sysconf(_SC_PAGESIZE) != SIM_PAGE)
		SKIP("pages are not 4 KiB");
}

static struct both *both_new(uint64_t seed)
{
	static struct both both; /* survives the longjmp of a failure */

	need_stock_kernel();
	signal(SIGPIPE, SIG_IGN);
	both = (struct both){.sim = sim_new()};
	sim_start(both.sim, seed, NULL);
	both.real.random = both.simulated.random = seed;
	both.contents = malloc(FILE_BYTES);
	both.real.buffer = aligned_alloc(SIM_PAGE, BUFFER);
	both.simulated.buffer = aligned_alloc(SIM_PAGE, BUFFER);
	CHECK(both.contents && both.real.buffer && both.simulated.buffer);
	sim_stream_fill(both.sim, SIM_STREAM_SOURCE, 0, both.contents, FILE_BYTES);
	open_real(&both.real, both.contents);
	open_simulated(&both.simulated, both.sim);
	return &both;
}

static void both_free(struct both *both)
{
	for (int i = 0; i < SLOTS; i++)
		if (!both->real.closed[i])
			close(both->real.fd[i]);
	free(both->contents);
	free(both->real.buffer);
	free(both->simulated.buffer);
	sim_free(both->sim);
}

static void describe(const struct step *step, char *text, size_t size)
{
	static const char *const whats[] = {"end",      "read",  "write",    "send",
					    "splice",   "tee",   "sendfile", "copy_file_range",
					    "seek",     "stat",  "poll",     "resize",
					    "capacity", "close", "flags",    "vmsplice"};
	static const char *const slots[] = {"pipe_out", "pipe_in", "full_out",    "full_in",
					    "wait_out", "wait_in", "file_a",      "file_b",
					    "append",   "null",    "full_device", "socket_a",
					    "socket_b", "folder"};

	snprintf(text, size, "%s(%s, %s, %lld, from %lld, to %lld, flags %x)",
		 whats[step->what], slots[step->a], slots[step->b], (long long)step->bytes,
		 (long long)step->from, (long long)step->to, step->flags);
}

static void compare(struct both *both, const struct step *step, unsigned number)
{
	struct answer real, simulated;
	char text[160];

	if (step->what == CLOSE) {
		close(both->real.fd[step->a]);
		sim_close_borrowed(both->sim, both->simulated.fd[step->a]);
		both->real.closed[step->a] = true;
		return;
	}
	real = make(&both->real, step);
	both->sim->idle_calls = 0;
	simulated = make(&both->simulated, step);
	describe(step, text, sizeof(text));
	if (getenv("FID_TRACE"))
		test_note("%u: %s: %lld", number, text, (long long)real.result);
	if (real.result != simulated.result)
		FAIL("call %u, %s: the kernel answers %lld, the simulator %lld", number, text,
		     (long long)real.result, (long long)simulated.result);
	if (real.result >= 0 && (real.from != simulated.from || real.to != simulated.to))
		FAIL("call %u, %s: offsets are %lld, %lld on the kernel, %lld, %lld on the "
		     "simulator",
		     number, text, (long long)real.from, (long long)real.to,
		     (long long)simulated.from, (long long)simulated.to);
	if (real.digest != simulated.digest)
		FAIL("call %u, %s: the bytes differ", number, text);
}

static void run_script(const struct step *steps)
{
	struct both *both = both_new(7);

	for (unsigned i = 0; steps[i].what != END; i++)
		compare(both, &steps[i], i + 1);
	both_free(both);
}

#define NB SPLICE_F_NONBLOCK

TEST(files_have_the_same_ends_and_offsets)
{
	run_script((const struct step[]){
		{READ, FILE_A, 0, 1000, OWN, OWN, 0},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{READ, FILE_A, 0, 1000, FILE_BYTES - 10, OWN, 0},
		{READ, FILE_A, 0, 1000, FILE_BYTES, OWN, 0},
		{READ, FILE_A, 0, 1000, FILE_BYTES + 10, OWN, 0},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, FILE_A, 0, 0, -100, OWN, SEEK_END},
		{READ, FILE_A, 0, 1000, OWN, OWN, 0},
		{READ, FILE_A, 0, 1000, OWN, OWN, 0},
		{WRITE, FILE_B, 0, 5000, OWN, OWN, 0},
		{WRITE, FILE_B, 0, 100, 200, OWN, 0},
		{WRITE, FILE_B, 0, 100, 10000, OWN, 0},
		{SIZE, FILE_B, 0, 0, OWN, OWN, 0},
		{SEEK, FILE_B, 0, 0, 0, OWN, SEEK_CUR},
		{READ, FILE_B, 0, 20000, 0, OWN, 0},
		{WRITE, APPEND, 0, 77, OWN, OWN, 0},
		{WRITE, APPEND, 0, 77, 5, OWN, 0},
		{SIZE, APPEND, 0, 0, OWN, OWN, 0},
		{READ, FILE_B, 0, 20000, 0, OWN, 0},
		{SEEK, APPEND, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, PIPE_OUT, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, SOCKET_A, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, NULL_DEVICE, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, FILE_A, 0, 0, -1, OWN, SEEK_SET},
		{READ, FOLDER, 0, 10, OWN, OWN, 0},
		{READ, PIPE_IN, 0, 10, OWN, OWN, 0},
		{WRITE, PIPE_OUT, 0, 10, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 10, 0, OWN, 0},
		{WRITE, PIPE_IN, 0, 10, 0, OWN, 0},
		{READ, NULL_DEVICE, 0, 10, OWN, OWN, 0},
		{WRITE, NULL_DEVICE, 0, 10, OWN, OWN, 0},
		{WRITE, FULL_DEVICE, 0, 10, OWN, OWN, 0},
		{FLAGS, APPEND, 0, 0, OWN, OWN, 0},
		{FLAGS, PIPE_OUT, 0, 0, OWN, OWN, 0},
		{FLAGS, PIPE_IN, 0, 0, OWN, OWN, 0},
		{FLAGS, SOCKET_A, 0, 0, OWN, OWN, 0},
		{0},
	});
}

TEST(pipes_count_slots_and_join_small_writes)
{
	struct step tiny[4200] = {0};
	unsigned n = 0;

	for (int i = 0; i < 4097; i++)
		tiny[n++] = (struct step){WRITE, PIPE_IN, 0, 1, OWN, OWN, 0};
	tiny[n++] = (struct step){READ, PIPE_OUT, 0, 5000, OWN, OWN, 0};
	for (int i = 0; i < 17; i++)
		tiny[n++] = (struct step){VMSPLICE, PIPE_IN, 0, 1, OWN, OWN, NB};
	tiny[n++] = (struct step){POLL, PIPE_IN, 0, 0, OWN, OWN, 0};
	tiny[n++] = (struct step){WRITE, PIPE_IN, 0, 1, OWN, OWN, 0};
	tiny[n++] = (struct step){READ, PIPE_OUT, 0, 100, OWN, OWN, 0};
	run_script(tiny);

	run_script((const struct step[]){
		{CAPACITY, PIPE_IN, 0, 0, OWN, OWN, 0},
		{POLL, PIPE_IN, 0, 0, OWN, OWN, 0},
		{POLL, PIPE_OUT, 0, 0, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 100000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 1, OWN, OWN, 0},
		{POLL, PIPE_IN, 0, 0, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 4095, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 1, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 1, OWN, OWN, 0},
		{POLL, PIPE_IN, 0, 0, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 5000, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 100000, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 100000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 5000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 5000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 50000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 50000, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 100000, OWN, OWN, 0},
		{RESIZE, PIPE_IN, 0, 1, OWN, OWN, 0},
		{RESIZE, PIPE_IN, 0, 0, OWN, OWN, 0},
		{RESIZE, PIPE_OUT, 0, 5000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 50000, OWN, OWN, 0},
		{RESIZE, PIPE_IN, 0, 4096, OWN, OWN, 0},
		{RESIZE, PIPE_IN, 0, 16384, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 50000, OWN, OWN, 0},
		{CAPACITY, FILE_A, 0, 0, OWN, OWN, 0},
		{RESIZE, SOCKET_A, 0, 4096, OWN, OWN, 0},
		{0},
	});
}

TEST(splice_from_and_to_files_takes_slots_and_moves_offsets)
{
	run_script((const struct step[]){
		{SPLICE, FILE_A, PIPE_IN, 1 << 20, 1, OWN, 0},
		{SPLICE, FILE_A, PIPE_IN, 1 << 20, 1, OWN, NB},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{SPLICE, PIPE_OUT, FILE_B, 1000, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FILE_B, 1000, OWN, 5000, 0},
		{SEEK, FILE_B, 0, 0, 0, OWN, SEEK_CUR},
		{SIZE, FILE_B, 0, 0, OWN, OWN, 0},
		{READ, FILE_B, 0, 9000, 0, OWN, 0},
		{SPLICE, PIPE_OUT, APPEND, 1000, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FULL_DEVICE, 1000, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, NULL_DEVICE, 1000, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, PIPE_IN, 1000, OWN, OWN, NB},
		{SPLICE, PIPE_OUT, FULL_IN, 1000, OWN, OWN, NB},
		{SPLICE, PIPE_OUT, FULL_IN, 1 << 20, OWN, OWN, NB},
		{SPLICE, PIPE_OUT, FULL_IN, 1 << 20, OWN, OWN, NB},
		{READ, FULL_OUT, 0, 70000, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 5000, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 5000, OWN, OWN, 0},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{READ, FULL_OUT, 0, 70000, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 5000, FILE_BYTES - 7, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 5000, FILE_BYTES, OWN, 0},
		{SPLICE, FILE_A, FILE_B, 5000, OWN, OWN, 0},
		{SPLICE, NULL_DEVICE, FULL_IN, 5000, OWN, OWN, 0},
		{SPLICE, FOLDER, FULL_IN, 5000, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 0, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 10, OWN, OWN, 0x80},
		{SPLICE, FULL_OUT, FILE_B, 10, 0, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 10, OWN, 0, 0},
		{SPLICE, FULL_OUT, PIPE_IN, 10, OWN, 0, 0},
		{SPLICE, FULL_IN, FILE_B, 10, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_OUT, 10, OWN, OWN, 0},
		{0},
	});
}

TEST(an_empty_pipe_is_eagain_and_a_closed_one_is_the_end)
{
	run_script((const struct step[]){
		{SPLICE, PIPE_OUT, FILE_B, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, FILE_B, 10, OWN, OWN, NB},
		{SPLICE, PIPE_OUT, SOCKET_A, 10, OWN, OWN, 0},
		{SPLICE, SOCKET_A, PIPE_IN, 10, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 10, OWN, OWN, 0},
		{READ, SOCKET_A, 0, 10, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_IN, 10, OWN, OWN, NB},
		{CLOSE, PIPE_IN, 0, 0, OWN, OWN, 0},
		{POLL, PIPE_OUT, 0, 0, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FILE_B, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_IN, 10, OWN, OWN, NB},
		{READ, PIPE_OUT, 0, 10, OWN, OWN, 0},
		{CLOSE, FULL_OUT, 0, 0, OWN, OWN, 0},
		{POLL, FULL_IN, 0, 0, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, FULL_IN, 10, OWN, OWN, 0},
		{SPLICE, FILE_A, FULL_IN, 10, OWN, OWN, 0},
		{SENDFILE, FILE_A, FULL_IN, 10, OWN, OWN, 0},
		{WRITE, FULL_IN, 0, 10, OWN, OWN, 0},
		{SPLICE, SOCKET_A, FULL_IN, 10, OWN, OWN, 0},
		{WRITE, WAIT_IN, 0, 10, OWN, OWN, 0},
		{SPLICE, WAIT_OUT, FULL_IN, 10, OWN, OWN, 0},
		{TEE, WAIT_OUT, FULL_IN, 10, OWN, OWN, 0},
		{READ, WAIT_OUT, 0, 100, OWN, OWN, 0},
		{0},
	});
}

TEST(tee_copies_from_the_head_and_takes_nothing)
{
	run_script((const struct step[]){
		{WRITE, PIPE_IN, 0, 10000, OWN, OWN, 0},
		{TEE, PIPE_OUT, FULL_IN, 5000, OWN, OWN, NB},
		{TEE, PIPE_OUT, FULL_IN, 100000, OWN, OWN, NB},
		{TEE, PIPE_OUT, PIPE_IN, 5000, OWN, OWN, NB},
		{TEE, PIPE_OUT, FILE_B, 5000, OWN, OWN, NB},
		{READ, FULL_OUT, 0, 100000, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 100000, OWN, OWN, 0},
		{0},
	});
}

TEST(sendfile_and_copy_file_range_have_the_same_borders)
{
	run_script((const struct step[]){
		{SENDFILE, FILE_A, FILE_B, 1000, OWN, OWN, 0},
		{SENDFILE, FILE_A, FILE_B, 1000, 50, OWN, 0},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, FILE_B, 0, 0, 0, OWN, SEEK_CUR},
		{SENDFILE, FILE_A, FILE_B, 1 << 20, FILE_BYTES - 5, OWN, 0},
		{SENDFILE, FILE_A, FILE_B, 1 << 20, FILE_BYTES, OWN, 0},
		{SENDFILE, FILE_A, APPEND, 10, OWN, OWN, 0},
		{SENDFILE, FILE_A, FULL_DEVICE, 10, OWN, OWN, 0},
		{SENDFILE, FILE_A, NULL_DEVICE, 10, OWN, OWN, 0},
		{SENDFILE, FILE_A, SOCKET_A, 1000, OWN, OWN, 0},
		{READ, SOCKET_B, 0, 2000, OWN, OWN, 0},
		{SENDFILE, FILE_A, FULL_IN, 1000, OWN, OWN, 0},
		{READ, FULL_OUT, 0, 2000, OWN, OWN, 0},
		{SENDFILE, FILE_A, FULL_IN, 1 << 20, 3, OWN, 0},
		{SENDFILE, FILE_A, FULL_IN, 1 << 20, 3, OWN, 0},
		{READ, FULL_OUT, 0, 70000, OWN, OWN, 0},
		{WRITE, PIPE_IN, 0, 100, OWN, OWN, 0},
		{SENDFILE, PIPE_OUT, FILE_B, 100, OWN, OWN, 0},
		{COPY, FILE_A, FILE_B, 1000, OWN, OWN, 0},
		{COPY, FILE_A, FILE_B, 1000, 0, 0, 0},
		{COPY, FILE_A, FILE_B, 1 << 20, FILE_BYTES - 9, 4, 0},
		{COPY, FILE_A, FILE_B, 1 << 20, FILE_BYTES, 4, 0},
		{COPY, FILE_A, APPEND, 1000, OWN, OWN, 0},
		{COPY, FILE_A, PIPE_IN, 1000, OWN, OWN, 0},
		{COPY, PIPE_OUT, FILE_B, 1000, OWN, OWN, 0},
		{COPY, FILE_A, FILE_A, 1000, 0, 500, 0},
		{COPY, FOLDER, FILE_B, 1000, OWN, OWN, 0},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{SEEK, FILE_B, 0, 0, 0, OWN, SEEK_CUR},
		{SIZE, FILE_B, 0, 0, OWN, OWN, 0},
		{READ, FILE_B, 0, 100000, 0, OWN, 0},
		{0},
	});
}

TEST(sockets_and_their_ends)
{
	run_script((const struct step[]){
		{POLL, SOCKET_A, 0, 0, OWN, OWN, 0},
		{SEND, SOCKET_A, 0, 100, OWN, OWN, 0},
		{SEND, PIPE_IN, 0, 100, OWN, OWN, 0},
		{POLL, SOCKET_B, 0, 0, OWN, OWN, 0},
		{READ, SOCKET_B, 0, 10, OWN, OWN, 0},
		{SPLICE, SOCKET_B, PIPE_IN, 1000, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, SOCKET_B, 50, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, SOCKET_B, 50, OWN, OWN, 0},
		{READ, SOCKET_A, 0, 1000, OWN, OWN, 0},
		{SPLICE, SOCKET_A, SOCKET_B, 10, OWN, OWN, 0},
		{SPLICE, SOCKET_A, PIPE_IN, 10, 0, OWN, 0},
		{SEND, SOCKET_A, 0, 10, OWN, OWN, 0},
		{CLOSE, SOCKET_A, 0, 0, OWN, OWN, 0},
		{POLL, SOCKET_B, 0, 0, OWN, OWN, 0},
		{READ, SOCKET_B, 0, 1000, OWN, OWN, 0},
		{READ, SOCKET_B, 0, 1000, OWN, OWN, 0},
		{SPLICE, SOCKET_B, PIPE_IN, 10, OWN, OWN, 0},
		{SEND, SOCKET_B, 0, 10, OWN, OWN, 0},
		{SENDFILE, FILE_A, SOCKET_B, 10, OWN, OWN, 0},
		{SEEK, FILE_A, 0, 0, 0, OWN, SEEK_CUR},
		{WRITE, PIPE_IN, 0, 10, OWN, OWN, 0},
		{SPLICE, PIPE_OUT, SOCKET_B, 50, OWN, OWN, 0},
		{READ, PIPE_OUT, 0, 100, OWN, OWN, 0},
		{0},
	});
}

static int64_t random_bytes(uint64_t *random)
{
	static const int64_t bytes[] = {1,    7,     511,   4095,  4096,  4097,
					8192, 10000, 16384, 65535, 65536, 100000};
	uint64_t choice = test_random(random);

	if (choice & 1)
		return bytes[(choice >> 8) % (sizeof(bytes) / sizeof(bytes[0]))];
	return 1 + (int64_t)((choice >> 8) % 9000);
}

/* Any call on pipes and files that cannot sleep. */
static struct step random_step(uint64_t *random)
{
	static const int sources[] = {PIPE_OUT, FULL_OUT, FILE_A, FILE_B, PIPE_OUT, FULL_OUT};
	static const int sinks[] = {PIPE_IN, FULL_IN, FILE_B, APPEND, NULL_DEVICE, PIPE_IN};
	static const enum what whats[] = {READ,     READ, WRITE, WRITE, SPLICE, SPLICE, TEE,
					  SENDFILE, COPY, POLL,  SIZE,  SEEK,   RESIZE, SPLICE};
	uint64_t choice = test_random(random);
	struct step step = {
		.what = whats[choice % (sizeof(whats) / sizeof(whats[0]))],
		.a = sources[(choice >> 8) % 6],
		.b = sinks[(choice >> 16) % 6],
		.bytes = random_bytes(random),
		.from = OWN,
		.to = OWN,
		.flags = choice >> 24 & 1 ? NB : 0,
	};

	if ((step.a == FILE_A || step.a == FILE_B) && choice >> 25 & 1)
		step.from = (int64_t)(test_random(random) % (FILE_BYTES + 1000));
	if (step.b == FILE_B && choice >> 26 & 1)
		step.to = (int64_t)(test_random(random) % 200000);
	switch (step.what) {
	case WRITE:
		step.a = step.b;
		step.from = step.to;
		break;
	case POLL:
		if (choice >> 27 & 1)
			step.a = step.b;
		break;
	case SEEK:
		step.a = choice >> 27 & 1 ? FILE_A : FILE_B;
		step.from = (int64_t)(test_random(random) % (FILE_BYTES + 1000));
		step.flags = SEEK_SET;
		break;
	case RESIZE:
		step.bytes *= 2;
		break;
	case SENDFILE:
		/* What is sent from a file to itself depends on the kernel's chunks. */
		if (step.a == FILE_B && step.b == FILE_B)
			step.a = FILE_A;
		step.to = OWN;
		break;
	default:
		break;
	}
	return step;
}

/*
 * A pipe's pages may be the file's own: it shows a later write, here as there. What the
 * simulator does not follow is how files share pages when one is overwritten with itself, so
 * the file that is written to is not the one that pipes refer to.
 */
TEST(random_calls_answer_alike)
{
	uint64_t random = test_seed();
	const char *given = getenv("FID_CALLS");
	unsigned rounds = given ? (unsigned)strtoul(given, NULL, 0) / 200 : 150;
	unsigned calls = 0;

	for (unsigned round = 0; round < rounds; round++) {
		struct both *both = both_new(test_random(&random));

		for (unsigned i = 0; i < 200; i++, calls++) {
			struct step step = random_step(&random);

			if (step.a == FILE_B && step.what != SEEK && step.what != READ &&
			    step.what != SIZE && step.what != WRITE && step.what != POLL)
				step.a = FILE_A;
			compare(both, &step, i + 1);
		}
		both_free(both);
	}
	test_note("%u calls compared", calls);
}
