/* SPDX-License-Identifier: MIT */
/*
 * Between the files of the simulated calls.
 */
#ifndef FID_SIM_CALLS_H
#define FID_SIM_CALLS_H

#include "sim.h"

enum { SIM_ALIGNMENT = 512 /* of O_DIRECT */ };

/* A descriptor and what it refers to. */
struct sim_port {
	struct sim_fd *fd;
	struct sim_object *object;
};

static inline bool sim_is_socket(const struct sim_object *object)
{
	return object->kind == SIM_TCP || object->kind == SIM_UNIX;
}

/* What has a queue and a far end. */
static inline bool sim_is_queue(const struct sim_object *object)
{
	return sim_is_socket(object) || object->kind == SIM_TERMINAL;
}

static inline bool sim_is_seekable(const struct sim_object *object)
{
	return object->kind != SIM_FIFO && !sim_is_queue(object);
}

/* ---- calls.c ---------------------------------------------------------------------------- */

/* Begins a call on two descriptors, -1 where there is none. Returns 0 or what it must answer.
 */
int sim_enter(struct sim *sim, enum sim_call call, int first, int second);

/* Ends it: accounts for what it answers. */
ssize_t sim_leave(struct sim *sim, enum sim_call call, int first, int second, ssize_t result);

/* Sends SIGPIPE for a sink, if such a sink does. */
void sim_raise_sigpipe(struct sim *sim, enum sim_call call, int fd);
ssize_t sim_signalling(struct sim *sim, enum sim_call call, int fd, ssize_t result,
		       size_t bytes);

/* The port of a descriptor number, or one without a descriptor: EBADF. */
struct sim_port sim_port_of(struct sim *sim, int number, enum sim_call call);

/* How much of bytes this kernel moves at once. */
uint64_t sim_shorten(struct sim *sim, uint64_t bytes);

/* A ready descriptor of the caller's may still say EAGAIN: somebody else was faster. */
bool sim_is_unlucky(struct sim *sim, const struct sim_port *port);

/* ---- ports.c: what sources have and what sinks take ------------------------------------- */

bool sim_is_misaligned(const struct sim_fd *fd, uint64_t offset, uint64_t bytes,
		       const void *memory);
ssize_t sim_file_peek(struct sim *sim, const struct sim_port *port, uint64_t offset,
		      uint64_t bytes, bool by_read, struct sim_run *run);
ssize_t sim_stream_peek(struct sim *sim, const struct sim_port *port, uint64_t bytes,
			uint32_t segment_bytes, struct sim_run *run);
void sim_stream_drop(struct sim *sim, struct sim_object *object, uint64_t bytes);
uint64_t sim_file_offset(const struct sim_port *port, const int64_t *offset);
ssize_t sim_file_put(struct sim *sim, const struct sim_port *port, uint64_t offset,
		     const struct sim_run *run);

/* How extents come into a pipe: as new slots, as another pipe's slots, or by write(2). */
#define SIM_AS_SLOTS ((uint64_t)0)
#define SIM_AS_MOVED_SLOTS UINT64_MAX

ssize_t sim_stream_put(struct sim *sim, const struct sim_port *port, const struct sim_run *run,
		       uint64_t way);

/* ---- mappings.c ------------------------------------------------------------------------- */

/* Which huge page memory of a slab lies on, as a number that is never used again; else 0. */
uint32_t sim_memory_pages(struct sim *sim, const void *memory);

/* How many of bytes can be reached: all, unless a test made a hole in the process' memory. */
size_t sim_memory_there(const struct sim *sim, const void *memory, size_t bytes);

void sim_mapping_drop(struct sim *sim, struct sim_mapping *map);
void sim_memory_file_drop(struct sim_object *file);

/* ---- splice.c --------------------------------------------------------------------------- */

/* Why a sink refuses splice and sendfile, or 0; and what such a call answers. */
int sim_refusal(struct sim *sim, const struct sim_port *sink);
int sim_refused(struct sim *sim, const struct sim_port *sink);
ssize_t sim_splice_to_pipe(struct sim *sim, enum sim_call call, const struct sim_port *source,
			   int64_t *source_offset, const struct sim_port *sink, size_t bytes,
			   unsigned flags);

/* Each file fills in its own calls. */
void sim_table_ports(struct fid_kernel *kernel);
void sim_table_splice(struct fid_kernel *kernel);
void sim_table_files(struct fid_kernel *kernel);
void sim_table_facts(struct fid_kernel *kernel);
void sim_table_mappings(struct fid_kernel *kernel);

#endif
