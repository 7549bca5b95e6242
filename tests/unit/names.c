/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <errno.h>
#include <fid.h>
#include <stdio.h>
#include <string.h>

TEST(the_version_is_that_of_the_header)
{
	char version[32];

	snprintf(version, sizeof(version), "%d.%d.%d", FID_VERSION_MAJOR, FID_VERSION_MINOR,
		 FID_VERSION_PATCH);
	CHECK_TEXT(fid_version(), version);
}

TEST(sides_have_names)
{
	CHECK_TEXT(fid_side_name(FID_SIDE_NONE), "none");
	CHECK_TEXT(fid_side_name(FID_SIDE_SOURCE), "source");
	CHECK_TEXT(fid_side_name(FID_SIDE_SINK), "sink");
	CHECK_TEXT(fid_side_name(FID_SIDE_FID), "fid");
}

TEST(classes_have_names)
{
	CHECK_TEXT(fid_class_name(FID_BY_REFERENCE), "by-reference");
	CHECK_TEXT(fid_class_name(FID_KERNEL_COPY), "kernel-copy");
	CHECK_TEXT(fid_class_name(FID_USER_COPY), "user-copy");
}

TEST(methods_have_names)
{
	CHECK_TEXT(fid_method_name(FID_REFLINK), "reflink");
	CHECK_TEXT(fid_method_name(FID_COPY_FILE_RANGE), "copy_file_range");
	CHECK_TEXT(fid_method_name(FID_SENDFILE), "sendfile");
	CHECK_TEXT(fid_method_name(FID_SPLICE), "splice");
	CHECK_TEXT(fid_method_name(FID_SPLICE_PIPE), "splice-pipe");
	CHECK_TEXT(fid_method_name(FID_READ_WRITE), "read-write");
	CHECK_TEXT(fid_method_name(FID_TEE), "tee");
	CHECK_TEXT(fid_method_name(FID_VMSPLICE), "vmsplice");
}

/* Enums are unsigned here, so that -1 is a value out of range as well. */
#define CHECK_ALL_NAMED(name, type, count)                                          \
	do {                                                                        \
		for (int i_ = 0; i_ < (count); i_++) {                              \
			CHECK(name((type)i_)[0] != 0);                              \
			CHECK(strcmp(name((type)i_), "unknown") != 0);              \
			for (int j_ = 0; j_ < i_; j_++)                             \
				CHECK(strcmp(name((type)i_), name((type)j_)) != 0); \
		}                                                                   \
		CHECK_TEXT(name((type)(count)), "unknown");                         \
		CHECK_TEXT(name((type)-1), "unknown");                              \
		CHECK_TEXT(name((type)12345), "unknown");                           \
	} while (0)

TEST(every_value_has_a_name_of_its_own_and_the_others_are_unknown)
{
	CHECK_ALL_NAMED(fid_side_name, enum fid_side, 4);
	CHECK_ALL_NAMED(fid_class_name, enum fid_class, FID_CLASSES);
	CHECK_ALL_NAMED(fid_method_name, enum fid_method, FID_METHODS);
	CHECK_ALL_NAMED(fid_call_name, enum fid_call, FID_CALLS);
}

TEST(errors_are_named_with_either_sign)
{
	static const struct {
		int error;
		const char *name;
	} errors[] = {
		{EPIPE, "EPIPE"},           {ENOSPC, "ENOSPC"}, {EINVAL, "EINVAL"},
		{EOPNOTSUPP, "EOPNOTSUPP"}, {EIO, "EIO"},       {ECONNRESET, "ECONNRESET"},
		{EFBIG, "EFBIG"},           {EPERM, "EPERM"},   {ENOSYS, "ENOSYS"},
		{EAGAIN, "EAGAIN"},         {EINTR, "EINTR"},   {ETIMEDOUT, "ETIMEDOUT"},
		{EMFILE, "EMFILE"},         {EBADF, "EBADF"},   {ENOMEM, "ENOMEM"},
		{E2BIG, "E2BIG"},           {EXDEV, "EXDEV"},   {EDQUOT, "EDQUOT"},
	};

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		CHECK_TEXT(fid_error_name(errors[i].error), errors[i].name);
		CHECK_TEXT(fid_error_name(-errors[i].error), errors[i].name);
	}
	CHECK_TEXT(fid_error_name(99999), "unknown");
	CHECK(fid_error_name(0) != NULL);
}
