/* SPDX-License-Identifier: MIT */
#include "command.h"
#include "deny.h"
#include "job.h"
#include "program.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char run_help[] =
	"Usage: fid run [OPTION]... [--] COMMAND [ARGUMENT]...\n"
	"\n"
	"Runs COMMAND so that its calls of splice, tee, vmsplice, sendfile and\n"
	"copy_file_range work where the kernel, a container or a sandbox refuses them.\n"
	"Where they are allowed the kernel serves them as ever. COMMAND's children are\n"
	"helped as well. The options of fid end at COMMAND.\n"
	"\n"
	"  --deny CALL=ERRNO[,CALL=ERRNO]...\n"
	"                            have the kernel refuse these calls to COMMAND and\n"
	"                            its children, to rehearse a container or a kernel\n"
	"                            to come. CALL is splice, tee, vmsplice,\n"
	"                            vmsplice-gift (only with SPLICE_F_GIFT), sendfile\n"
	"                            or copy_file_range; ERRNO is EPERM, ENOSYS ...\n"
	"  --no-preload              do not help: how does COMMAND fare by itself?\n"
	"  -h, --help                this text\n"
	"  --version                 the version\n"
	"\n"
	"A COMMAND that cannot be helped (static, set-user-ID, for another machine) is\n"
	"run all the same, after a warning.\n"
	"\n"
	"Exit status: that of COMMAND; 125 fid itself failed, 126 COMMAND cannot be run,\n"
	"127 there is none; 2 wrong usage.\n"
	"\n"
	"  fid run -- pv big.tar > /mnt/copy.tar\n"
	"  fid run --deny splice=EPERM,vmsplice=EPERM -- ./server\n"
	"  fid run --deny vmsplice-gift=EOPNOTSUPP --no-preload -- ./server\n";

/* As env(1) and timeout(1) have them. */
enum {
	STATUS_RUN_FAILED = 125,
	STATUS_NOT_EXECUTABLE = 126,
	STATUS_NOT_FOUND = 127,
};

enum {
	OPTION_DENY = 256,
	OPTION_NO_PRELOAD,
	OPTION_VERSION,
};

static const struct option options[] = {
	{"deny", required_argument, NULL, OPTION_DENY},
	{"no-preload", no_argument, NULL, OPTION_NO_PRELOAD},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, OPTION_VERSION},
	{0},
};

/* ---- The library ---- */

/* Where it is from the folder of this program: when installed, and in a build directory. */
static const char *const beside[] = {FID_PRELOAD_FROM_COMMAND, "../preload"};

static bool find_library(char path[PATH_MAX])
{
	char folder[PATH_MAX], joined[PATH_MAX + 512];
	ssize_t length = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
	char *slash;

	if (length > 0) {
		folder[length] = '\0';
		slash = strrchr(folder, '/');
		if (slash)
			*slash = '\0';
		for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
			snprintf(joined, sizeof(joined), "%s/%s/" FID_PRELOAD_NAME, folder,
				 beside[i]);
			if (realpath(joined, path) && access(path, R_OK) == 0)
				return true;
		}
	}
	snprintf(path, PATH_MAX, "%s", FID_PRELOAD_FOLDER "/" FID_PRELOAD_NAME);
	return access(path, R_OK) == 0;
}

/* Whether path is one of the list, whose separators are the loader's. */
static bool is_listed(const char *list, const char *path)
{
	size_t wanted = strlen(path);

	while (*list) {
		size_t length = strcspn(list, ": ");

		if (length == wanted && strncmp(list, path, length) == 0)
			return true;
		list += length;
		list += strspn(list, ": ");
	}
	return false;
}

static bool preload(void)
{
	const char *others = getenv("LD_PRELOAD");
	char path[PATH_MAX], shown[512];
	char *list;

	if (!find_library(path)) {
		print_error("%s is missing, which helps COMMAND",
			    print_name(shown, sizeof(shown), path));
		print_hint("install fid as a whole, or run COMMAND with --no-preload");
		return false;
	}
	/* The loader takes these for separators and for names of its own. */
	if (strpbrk(path, ": $")) {
		print_error("%s cannot be preloaded: no colon, space or $ may be in its name",
			    print_name(shown, sizeof(shown), path));
		print_hint("install fid in another folder");
		return false;
	}
	if (others && is_listed(others, path))
		return true;
	if (asprintf(&list, "%s%s%s", path, others && *others ? ":" : "",
		     others ? others : "") < 0 ||
	    setenv("LD_PRELOAD", list, 1) != 0) {
		print_error("%s", strerror(ENOMEM));
		return false;
	}
	free(list);
	return true;
}

/* ---- COMMAND ---- */

static void warn(const char *name, bool denied)
{
	struct program program;
	char shown[512], asked[256];
	const char *why;

	if (!program_look(&program, name))
		return;
	switch (program.reach) {
	case REACH_STATIC:
		why = "it is linked statically, and nothing can be preloaded";
		break;
	case REACH_PRIVILEGED:
		if (denied) {
			print_error("warning: %s runs without the privileges that its file "
				    "gives: calls are denied",
				    print_name(shown, sizeof(shown), program.path));
			return;
		}
		why = "its file gives privileges (set-user-ID, set-group-ID or capabilities), "
		      "and the loader preloads nothing then";
		break;
	case REACH_OTHER_MACHINE:
		why = denied ? "it is made for another machine than fid, and its calls are not "
			       "denied either"
			     : "it is made for another machine than fid";
		break;
	case REACH_OTHER_LOADER:
		why = "it is made for another C library than fid";
		break;
	default:
		return;
	}
	print_name(asked, sizeof(asked), name);
	print_name(shown, sizeof(shown), program.path);
	if (strcmp(asked, shown) == 0)
		print_error("warning: %s cannot be helped: %s", asked, why);
	else
		print_error("warning: %s (%s) cannot be helped: %s", asked, shown, why);
}

static int execute(char **command)
{
	char shown[512];
	int error;

	execvp(command[0], command);
	error = errno;
	print_error("%s: %s", print_name(shown, sizeof(shown), command[0]), strerror(error));
	return error == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
}

int run_run(int argc, char **argv)
{
	struct job job = {.command = "run", .help = run_help};
	struct denials denials = {0};
	bool helps = true;
	int option;

	opterr = 0;
	/* '+': the first operand ends the options, so that COMMAND's are its own. */
	while ((option = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
		switch (option) {
		case OPTION_DENY:
			if (!denials_parse(&denials, optarg))
				return STATUS_USAGE;
			break;
		case OPTION_NO_PRELOAD:
			helps = false;
			break;
		case 'h':
			return print_text(STDOUT_FILENO, run_help) ? STATUS_DONE
								   : STATUS_FAILED;
		case OPTION_VERSION:
			return print_version() ? STATUS_DONE : STATUS_FAILED;
		default:
			return job_option_misused(&job, options, option, argv[optind - 1]);
		}
	}
	if (optind == argc)
		return job_misused(&job, "the COMMAND is missing");
	if (helps && !preload())
		return STATUS_RUN_FAILED;
	if (helps)
		warn(argv[optind], denials.any);
	if (denials.any && !denials_install(&denials))
		return STATUS_RUN_FAILED;
	return execute(argv + optind);
}
