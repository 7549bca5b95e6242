/* SPDX-License-Identifier: MIT */
#include "program.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

/* How often an interpreter may be a script (include/linux/binfmts.h, exec_binprm). */
enum { SCRIPTS_MAX = 5 };

/* What the kernel reads of a script's first line (BINPRM_BUF_SIZE). */
enum { FIRST_LINE = 256 };

/* ---- Where it is ---- */

static bool is_program(const char *path)
{
	struct stat stat_;

	return stat(path, &stat_) == 0 && S_ISREG(stat_.st_mode) && access(path, X_OK) == 0;
}

static bool find(char path[PATH_MAX], const char *name)
{
	const char *folders = getenv("PATH");
	char usual[256];

	if (strchr(name, '/'))
		return (size_t)snprintf(path, PATH_MAX, "%s", name) < PATH_MAX &&
		       is_program(path);
	if (!folders) {
		confstr(_CS_PATH, usual, sizeof(usual));
		folders = usual;
	}
	for (;;) {
		size_t length = strcspn(folders, ":");

		if ((size_t)snprintf(path, PATH_MAX, "%.*s%s%s", (int)length, folders,
				     length ? "/" : "", name) < PATH_MAX &&
		    is_program(path))
			return true;
		if (!folders[length])
			return false;
		folders += length + 1;
	}
}

/* ---- What it is ---- */

struct image {
	unsigned char identity[EI_NIDENT];
	unsigned machine;
	char loader[256]; /* empty: none */
};

/* The program header that names the loader, of a file of this machine's own kind. */
static void read_loader(int fd, const ElfW(Ehdr) * header, struct image *image)
{
	for (unsigned i = 0; i < header->e_phnum; i++) {
		ElfW(Phdr) part;
		off_t at = (off_t)(header->e_phoff + (size_t)i * header->e_phentsize);

		if (pread(fd, &part, sizeof(part), at) != sizeof(part))
			return;
		if (part.p_type != PT_INTERP)
			continue;
		if (part.p_filesz >= sizeof(image->loader) ||
		    pread(fd, image->loader, part.p_filesz, (off_t)part.p_offset) < 0)
			image->loader[0] = '\0';
		return;
	}
}

static bool same_kind(const struct image *one, const struct image *other)
{
	return one->machine == other->machine &&
	       one->identity[EI_CLASS] == other->identity[EI_CLASS] &&
	       one->identity[EI_DATA] == other->identity[EI_DATA];
}

/* own: this program's image, or NULL while that is read. Returns false for what is no ELF. */
static bool read_image(int fd, const struct image *own, struct image *ret_image)
{
	ElfW(Ehdr) header = {0};

	*ret_image = (struct image){0};
	if (pread(fd, &header, sizeof(header), 0) < (ssize_t)sizeof(Elf32_Ehdr) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
		return false;
	memcpy(ret_image->identity, header.e_ident, EI_NIDENT);
	/* Of another byte order the number is another one, which is all that matters. */
	ret_image->machine = header.e_machine;
	if (!own || same_kind(ret_image, own))
		read_loader(fd, &header, ret_image);
	return true;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static enum reach reach_of_image(int fd)
{
	struct image own, image;
	int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	bool known = self >= 0 && read_image(self, NULL, &own);

	if (self >= 0)
		close(self);
	if (!known || !read_image(fd, &own, &image))
		return REACH_YES;
	if (!same_kind(&image, &own))
		return REACH_OTHER_MACHINE;
	if (!image.loader[0])
		return REACH_STATIC;
	/* The library is made for the C library that this program runs with. */
	if (own.loader[0] && strcmp(last_part(own.loader), last_part(image.loader)) != 0)
		return REACH_OTHER_LOADER;
	return REACH_YES;
}

/*
 * When the kernel sets AT_SECURE (cap_bprm_creds_from_file() in security/commoncap.c), at which
 * the loader forgets LD_PRELOAD: another user or group, or capabilities that the file gives to
 * whoever is not root.
 */
static bool gains_privileges(int fd)
{
	const mode_t group = S_ISGID | S_IXGRP;
	struct statvfs system;
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return false;
	if (fstatvfs(fd, &system) == 0 && system.f_flag & ST_NOSUID)
		return false;
	if (stat.st_mode & S_ISUID && stat.st_uid != getuid())
		return true;
	if ((stat.st_mode & group) == group && stat.st_gid != getgid())
		return true;
	return getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

/* The interpreter that the first line names. Returns false for what is no script. */
static bool read_interpreter(int fd, char path[PATH_MAX])
{
	char line[FIRST_LINE + 1] = "";
	char *name;

	if (pread(fd, line, FIRST_LINE, 0) < 3 || strncmp(line, "#!", 2) != 0)
		return false;
	name = line + 2 + strspn(line + 2, " \t");
	name[strcspn(name, " \t\n")] = '\0';
	snprintf(path, PATH_MAX, "%s", name);
	return name[0] != '\0';
}

bool program_look(struct program *ret_program, const char *name)
{
	char *path = ret_program->path;

	ret_program->reach = REACH_YES;
	if (!find(path, name))
		return false;
	for (int i = 0; i < SCRIPTS_MAX; i++) {
		/* What may be run and not read is left to the kernel. */
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		bool is_script;

		if (fd < 0)
			return true;
		is_script = read_interpreter(fd, path);
		if (!is_script)
			ret_program->reach = gains_privileges(fd) ? REACH_PRIVILEGED
								  : reach_of_image(fd);
		close(fd);
		if (!is_script)
			break;
	}
	return true;
}
