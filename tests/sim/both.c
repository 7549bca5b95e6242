/* SPDX-License-Identifier: MIT */
#include "both.h"

#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t digest(const unsigned char *bytes, int64_t count)
{
	uint64_t hash = 14695981039346656037u;

	for (int64_t i = 0; i < count; i++)
		hash = (hash ^ bytes[i]) * 1099511628211u;
	return hash;
}

static void fill(struct side *side, unsigned char *to, int64_t bytes)
{
	for (int64_t i = 0; i < bytes; i += 8) {
		uint64_t word = test_random(&side->random);

		memcpy(to + i, &word, sizeof(word));
	}
}

/* The real kernel's poll says more kinds of "readable" than matter here. */
static int64_t poll_once(struct side *side, const struct step *step)
{
	struct pollfd wait = {.fd = side->fd[step->a], .events = POLLIN | POLLOUT | POLLRDHUP};
	int ready = side->kernel->poll(side->kernel, &wait, 1, 0);

	return ready < 0 ? ready : wait.revents & (POLLIN | POLLOUT | POLLERR | POLLHUP);
}

/* What a pipe refers to is not what is read into meanwhile. */
static unsigned char *vmsplice_memory(struct side *side, int slot)
{
	return slot == PIPE_OUT || slot == FULL_OUT || slot == WAIT_OUT ? side->buffer
									: side->lent;
}

/* As many segments as there are, one behind the other, each followed by one of no bytes. */
static int64_t vmsplice_many(struct side *side, int slot, size_t count, size_t bytes,
			     unsigned flags)
{
	unsigned char *memory = vmsplice_memory(side, slot);
	static struct iovec segments[SEGMENTS_MOST];

	CHECK(count <= SEGMENTS_MOST);
	for (size_t i = 0; i < count; i++)
		segments[i] = (struct iovec){
			.iov_base = memory + i / 2 * bytes % BUFFER,
			.iov_len = i % 2 ? 0 : bytes,
		};
	return side->kernel->vmsplice(side->kernel, side->fd[slot], segments, count, flags);
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
	struct iovec segment = {.iov_base = vmsplice_memory(side, step->a), .iov_len = bytes};
	struct fid_stat stat;

	switch (step->what) {
	case READ:
		answer.result = kernel->read(kernel, a, side->buffer, bytes, step->from);
		answer.digest = digest(side->buffer, answer.result);
		break;
	case WRITE:
		fill(side, side->buffer, step->bytes);
		answer.result = kernel->write(kernel, a, side->buffer, bytes, step->from, 0);
		break;
	case SEND:
		fill(side, side->buffer, step->bytes);
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
		fill(side, side->lent, step->bytes);
		answer.result = kernel->vmsplice(kernel, a, &segment, 1, step->flags);
		answer.digest = digest(segment.iov_base, answer.result);
		break;
	case SEGMENTS:
		fill(side, side->lent, BUFFER);
		answer.result =
			vmsplice_many(side, step->a, (size_t)step->from, bytes, step->flags);
		answer.digest = digest(vmsplice_memory(side, step->a), answer.result);
		break;
	case PEEK:
		answer.result = kernel->peek(kernel, a, side->buffer, bytes);
		answer.digest = digest(side->buffer, answer.result);
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
	side->fd[TERMINAL] = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
	if (side->fd[TERMINAL] < 0)
		SKIP("there are no pseudoterminals");
	side->fd[NOTHING] = -1;
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
	side->fd[TERMINAL] = sim_source(sim, SIM_TERMINAL, O_NONBLOCK, 0, SIM_END_IDLE);
	side->fd[NOTHING] = -1;
	/* Both processes ignore SIGPIPE in these tests. */
	sim->sigpipe_blocked = true;
}

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

struct both *both_new(uint64_t seed)
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
	both.real.lent = aligned_alloc(SIM_PAGE, BUFFER);
	both.simulated.lent = aligned_alloc(SIM_PAGE, BUFFER);
	CHECK(both.contents && both.real.buffer && both.simulated.buffer && both.real.lent &&
	      both.simulated.lent);
	sim_stream_fill(both.sim, SIM_STREAM_SOURCE, 0, both.contents, FILE_BYTES);
	open_real(&both.real, both.contents);
	open_simulated(&both.simulated, both.sim);
	return &both;
}

void both_free(struct both *both)
{
	for (int i = 0; i < SLOTS; i++)
		if (!both->real.closed[i])
			close(both->real.fd[i]);
	free(both->contents);
	free(both->real.buffer);
	free(both->simulated.buffer);
	free(both->real.lent);
	free(both->simulated.lent);
	sim_free(both->sim);
}

static void describe(const struct step *step, char *text, size_t size)
{
	static const char *const whats[] = {"end",      "read",  "write",    "send",
					    "splice",   "tee",   "sendfile", "copy_file_range",
					    "seek",     "stat",  "poll",     "resize",
					    "capacity", "close", "flags",    "vmsplice",
					    "segments", "peek"};
	static const char *const slots[] = {"pipe_out", "pipe_in", "full_out",    "full_in",
					    "wait_out", "wait_in", "file_a",      "file_b",
					    "append",   "null",    "full_device", "socket_a",
					    "socket_b", "folder",  "terminal",    "nothing"};

	snprintf(text, size, "%s(%s, %s, %lld, from %lld, to %lld, flags %x)",
		 whats[step->what], slots[step->a], slots[step->b], (long long)step->bytes,
		 (long long)step->from, (long long)step->to, step->flags);
}

void both_compare(struct both *both, const struct step *step, unsigned number)
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

void both_run(const struct step *steps)
{
	struct both *both = both_new(7);

	for (unsigned i = 0; steps[i].what != END; i++)
		both_compare(both, &steps[i], i + 1);
	both_free(both);
}
