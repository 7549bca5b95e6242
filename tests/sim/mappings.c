/* SPDX-License-Identifier: MIT */
/*
 * Memory: what is mapped, what pipes and sockets refer to of it, and files that live in memory.
 *
 * A pipe refers to memory by its address, so that a later store is seen by whoever reads the
 * pipe. When pages leave the process (munmap, MADV_DONTNEED) what refers to them keeps the
 * bytes of that moment, in memory of the simulator.
 */
#include "calls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- References ---- */

static struct sim_mapping *mapping_of(struct sim *sim, const void *memory, size_t bytes)
{
	uintptr_t at = (uintptr_t)memory;

	for (uint32_t i = 0; i < sim->maps; i++) {
		struct sim_mapping *map = &sim->map[i];
		uintptr_t begin = (uintptr_t)map->memory;

		if (at >= begin && at - begin < map->bytes &&
		    bytes <= map->bytes - (at - begin))
			return map;
	}
	return NULL;
}

uint32_t sim_memory_pages(struct sim *sim, const void *memory)
{
	const struct sim_mapping *map = mapping_of(sim, memory, 1);
	size_t slab;

	if (!map || !map->slab)
		return 0;
	slab = ((uintptr_t)memory - (uintptr_t)map->memory) / FID_SLAB_BYTES;
	return map->slab[slab];
}

size_t sim_memory_there(const struct sim *sim, const void *memory, size_t bytes)
{
	uintptr_t at = (uintptr_t)memory;

	if (!sim->hole_bytes || at + bytes <= sim->hole || at >= sim->hole + sim->hole_bytes)
		return bytes;
	return at < sim->hole ? sim->hole - at : 0;
}

/* What a reference to [begin, end) keeps when those pages go. */
static struct sim_extent kept(struct sim *sim, const struct sim_extent *extent)
{
	struct sim_extent own = *extent;

	own.what = SIM_LITERAL;
	own.at = (uintptr_t)sim_literal(sim, (const void *)(uintptr_t)extent->at,
					(size_t)extent->bytes);
	return own;
}

/* The part of an extent before an address, the part within pages that go, and the rest. */
static uint32_t split(struct sim *sim, const struct sim_extent *extent, uintptr_t begin,
		      uintptr_t end, struct sim_extent parts[3])
{
	const uint64_t borders[] = {begin, end, UINT64_MAX};
	struct sim_extent rest = *extent;
	uint32_t count = 0;

	for (int i = 0; i < 3 && rest.bytes; i++) {
		struct sim_extent part = rest;

		if (part.at >= borders[i])
			continue;
		if (part.bytes > borders[i] - part.at)
			part.bytes = borders[i] - part.at;
		part.merges &= part.bytes == rest.bytes;
		part.joined &= count == 0;
		parts[count++] = i == 1 ? kept(sim, &part) : part;
		sim_extent_skip(&rest, part.bytes);
	}
	return count;
}

static void ring_keeps(struct sim *sim, struct sim_ring *ring, uintptr_t begin, uintptr_t end)
{
	static struct sim_extent before[SIM_RING];
	uint32_t count = ring->count;

	for (uint32_t i = 0; i < count; i++)
		before[i] = ring->extent[(ring->head + i) % SIM_RING];
	ring->head = ring->count = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct sim_extent parts[3] = {before[i]};
		uint32_t made = 1;

		if (before[i].what == SIM_MEMORY)
			made = split(sim, &before[i], begin, end, parts);
		if (ring->count + made > SIM_RING)
			sim_fail(sim, "a pipe or socket holds more than %d extents", SIM_RING);
		for (uint32_t part = 0; part < made; part++)
			ring->extent[ring->count++] = parts[part];
	}
}

static bool refers(const struct sim_ring *ring, uintptr_t begin, uintptr_t end)
{
	for (uint32_t i = 0; i < ring->count; i++) {
		const struct sim_extent *extent = &ring->extent[(ring->head + i) % SIM_RING];

		if (extent->what == SIM_MEMORY && extent->at < end &&
		    extent->at + extent->bytes > begin)
			return true;
	}
	return false;
}

/* Pages leave the process, but what refers to them stays what it was. */
static void memory_goes(struct sim *sim, const void *memory, size_t bytes)
{
	uintptr_t begin = (uintptr_t)memory;

	if (!sim->lends_memory)
		return;
	for (uint32_t i = 0; i < sim->objects; i++)
		if (sim->object[i].in_use && refers(&sim->object[i].ring, begin, begin + bytes))
			ring_keeps(sim, &sim->object[i].ring, begin, begin + bytes);
}

uint32_t sim_slabs_referenced(struct sim *sim, const struct sim_object *object)
{
	uint32_t seen[SIM_RING];
	uint32_t count = 0;

	for (uint32_t i = 0; i < object->ring.count; i++) {
		const struct sim_extent *extent =
			&object->ring.extent[(object->ring.head + i) % SIM_RING];
		bool is_known = false;

		if ((extent->what != SIM_MEMORY && extent->what != SIM_LITERAL) ||
		    !extent->which)
			continue;
		for (uint32_t n = 0; n < count && !is_known; n++)
			is_known = seen[n] == extent->which;
		if (!is_known)
			seen[count++] = extent->which;
	}
	return count;
}

/* ---- Mappings ---- */

static struct sim_mapping *mapping_new(struct sim *sim, void *memory, size_t bytes)
{
	struct sim_mapping *map;

	if (sim->maps == SIM_MAPS)
		sim_fail(sim, "more than %d mappings are in use", SIM_MAPS);
	map = &sim->map[sim->maps++];
	*map = (struct sim_mapping){.memory = memory, .bytes = bytes};
	return map;
}

static void *zeroed(size_t alignment, size_t bytes)
{
	size_t whole = (bytes + alignment - 1) / alignment * alignment;
	void *memory = aligned_alloc(alignment, whole);

	if (!memory)
		abort();
	memset(memory, 0, whole);
	return memory;
}

static void *sim_map(struct fid_kernel *kernel, size_t bytes)
{
	struct sim *sim = sim_of(kernel);

	if (sim_enter(sim, SIM_MAP, -1, -1) || sim->world.no_memory)
		return NULL;
	return mapping_new(sim, zeroed(SIM_PAGE, bytes), bytes)->memory;
}

static void *sim_slab_map(struct fid_kernel *kernel, size_t bytes)
{
	struct sim *sim = sim_of(kernel);
	size_t slabs = (bytes + FID_SLAB_BYTES - 1) / FID_SLAB_BYTES;
	struct sim_mapping *map;

	if (sim_enter(sim, SIM_SLAB_MAP, -1, -1) || sim->world.no_slabs)
		return NULL;
	map = mapping_new(sim, zeroed(FID_SLAB_BYTES, bytes), bytes);
	map->slab = calloc(slabs, sizeof(*map->slab));
	if (!map->slab)
		abort();
	for (size_t i = 0; i < slabs; i++)
		map->slab[i] = ++sim->slabs_made;
	return map->memory;
}

static int sim_slab_is_huge(struct fid_kernel *kernel, void *slab)
{
	struct sim *sim = sim_of(kernel);
	int error = sim_enter(sim, SIM_SLAB_IS_HUGE, -1, -1);
	const struct sim_mapping *map = mapping_of(sim, slab, FID_SLAB_BYTES);
	unsigned char *bytes = slab;

	if (!map || !map->slab || (uintptr_t)slab % FID_SLAB_BYTES)
		sim_fail(sim, "slab_is_huge of what is not a slab");
	if (error)
		return 0;
	bytes[0] = 0;
	bytes[FID_SLAB_BYTES / 2] = 0;
	return !sim->world.no_huge_pages;
}

static void sim_unmap(struct fid_kernel *kernel, void *memory, size_t bytes)
{
	struct sim *sim = sim_of(kernel);

	for (uint32_t i = sim->maps; i-- > 0;) {
		struct sim_mapping *map = &sim->map[i];

		if (map->memory != memory)
			continue;
		if (map->bytes != bytes)
			sim_fail(sim, "unmap of %zu bytes where %zu are mapped", bytes,
				 map->bytes);
		sim_mapping_drop(sim, map);
		*map = sim->map[--sim->maps];
		return;
	}
	sim_fail(sim, "unmap of what is not mapped");
}

static int discard_any(struct sim *sim, void *memory, size_t bytes)
{
	struct sim_mapping *map = mapping_of(sim, memory, bytes);
	size_t first, last;

	if (!map)
		sim_fail(sim, "discard of %zu bytes that are not mapped", bytes);
	if ((uintptr_t)memory % SIM_PAGE)
		return -EINVAL;
	if (sim->world.discard)
		return sim->world.discard;
	/* A file's pages are the file's: they stay, and so do the references to them. */
	if (map->file)
		return 0;
	memory_goes(sim, memory, bytes);
	memset(memory, 0, bytes);
	if (!map->slab)
		return 0;
	first = ((uintptr_t)memory - (uintptr_t)map->memory + FID_SLAB_BYTES - 1) /
		FID_SLAB_BYTES;
	last = ((uintptr_t)memory - (uintptr_t)map->memory + bytes) / FID_SLAB_BYTES;
	for (size_t i = first; i < last; i++)
		map->slab[i] = ++sim->slabs_made;
	return 0;
}

static int sim_discard(struct fid_kernel *kernel, void *memory, size_t bytes)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_DISCARD, -1, -1);

	if (!result)
		result = discard_any(sim, memory, bytes);
	return (int)sim_leave(sim, SIM_DISCARD, -1, -1, result);
}

/* ---- Files in memory ---- */

/* A file's pages live until the round ends: whatever refers to them may go on to do so. */
static int file_new(struct sim *sim, size_t bytes)
{
	struct sim_object *file;
	size_t whole = (bytes + SIM_PAGE - 1) / SIM_PAGE * SIM_PAGE + SIM_PAGE;
	char *reserved = mmap(NULL, whole + FID_SLAB_BYTES, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (reserved == MAP_FAILED)
		abort();
	file = sim_object_new(sim, SIM_REGULAR);
	file->is_memory = true;
	file->magic = 0x01021994; /* tmpfs */
	file->reserved = reserved;
	file->reserved_bytes = whole + FID_SLAB_BYTES;
	file->memory =
		(unsigned char *)reserved + (-(uintptr_t)reserved & (FID_SLAB_BYTES - 1));
	file->memory_bytes = bytes;
	file->room = bytes;
	sim_content_write(&file->content, 0,
			  &(struct sim_extent){.what = SIM_MEMORY,
					       .at = (uintptr_t)file->memory,
					       .bytes = bytes});
	return sim_fd_new(sim, file, true, true, 0, false);
}

void sim_memory_file_drop(struct sim_object *file)
{
	if (file->is_memory)
		munmap(file->reserved, file->reserved_bytes);
	file->is_memory = false;
}

static int sim_memory_file(struct fid_kernel *kernel, size_t bytes)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_MEMORY_FILE, -1, -1);

	if (!result)
		result = sim->world.memory_file;
	if (!result)
		result = file_new(sim, bytes);
	return (int)sim_leave(sim, SIM_MEMORY_FILE, -1, -1, result);
}

static struct sim_object *file_of(struct sim *sim, int fd, enum sim_call call)
{
	struct sim_port port = sim_port_of(sim, fd, call);

	if (!port.fd || !port.object->is_memory)
		sim_fail(sim, "%s of descriptor %d, which is not a file in memory",
			 sim_call_name(call), fd);
	return port.object;
}

/* All maps of a file have one address; it can be written to while one of them may. */
static void protect(const struct sim_object *file)
{
	if (mprotect(file->memory, file->memory_bytes,
		     file->maps_writable ? PROT_READ | PROT_WRITE : PROT_READ) < 0)
		abort();
}

static void *sim_memory_file_map(struct fid_kernel *kernel, int fd, size_t bytes, bool writable)
{
	struct sim *sim = sim_of(kernel);
	int error = sim_enter(sim, SIM_MEMORY_FILE_MAP, fd, -1);
	struct sim_object *file = file_of(sim, fd, SIM_MEMORY_FILE_MAP);
	struct sim_mapping *map;

	if (error || sim->world.no_memory_file_map || (writable && file->sealed))
		return NULL;
	if (bytes > file->memory_bytes)
		sim_fail(sim, "a map of %zu bytes of a file of %zu", bytes, file->memory_bytes);
	map = mapping_new(sim, file->memory, bytes);
	map->file = file;
	map->writable = writable;
	file->maps_writable += writable;
	protect(file);
	return map->memory;
}

static int seal_any(struct sim *sim, struct sim_object *file, size_t bytes)
{
	if (sim->world.memory_file_seal)
		return sim->world.memory_file_seal;
	if (bytes > file->memory_bytes)
		sim_fail(sim, "a seal that makes a file of %zu bytes grow to %zu",
			 file->memory_bytes, bytes);
	if (file->sealed)
		return -EPERM;
	sim_content_clear(&file->content);
	sim_content_write(&file->content, 0,
			  &(struct sim_extent){.what = SIM_MEMORY,
					       .at = (uintptr_t)file->memory,
					       .bytes = bytes});
	file->room = bytes;
	if (file->maps_writable)
		return -EBUSY;
	file->sealed = true;
	protect(file);
	return 0;
}

static int sim_memory_file_seal(struct fid_kernel *kernel, int fd, size_t bytes)
{
	struct sim *sim = sim_of(kernel);
	int result = sim_enter(sim, SIM_MEMORY_FILE_SEAL, fd, -1);
	struct sim_object *file = file_of(sim, fd, SIM_MEMORY_FILE_SEAL);

	if (!result)
		result = seal_any(sim, file, bytes);
	return (int)sim_leave(sim, SIM_MEMORY_FILE_SEAL, fd, -1, result);
}

void sim_mapping_drop(struct sim *sim, struct sim_mapping *map)
{
	if (map->file) {
		map->file->maps_writable -= map->writable;
		protect(map->file);
		return;
	}
	memory_goes(sim, map->memory, map->bytes);
	free(map->memory);
	free(map->slab);
}

void sim_table_mappings(struct fid_kernel *kernel)
{
	kernel->map = sim_map;
	kernel->unmap = sim_unmap;
	kernel->discard = sim_discard;
	kernel->slab_map = sim_slab_map;
	kernel->slab_is_huge = sim_slab_is_huge;
	kernel->memory_file = sim_memory_file;
	kernel->memory_file_map = sim_memory_file_map;
	kernel->memory_file_seal = sim_memory_file_seal;
}
