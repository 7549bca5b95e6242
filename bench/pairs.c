/* SPDX-License-Identifier: MIT */
/*
 * The pairs of descriptors, each with the best hand-written loop that is known for it. The
 * sizes come from measurement on Linux 6.18; where two loops tied, the simpler one stands here.
 */
#include "pair.h"

#include <fid.h>

const struct pair pairs[] = {
	{
		.name = "file-pipe-splice",
		.title = "file -> pipe of 1 MiB, reader splices",
		.source = END_FILE,
		.sink = END_PIPE,
		.sink_pipe = MIB,
		.reader = READER_SPLICES,
		.hand = {LOOP_SPLICE, MIB},
		.hand_title = "splice, 1 MiB a call",
		.splicing_times = 16,
	},
	{
		.name = "file-pipe-read",
		.title = "file -> pipe of 256 KiB, reader reads",
		.source = END_FILE,
		.sink = END_PIPE,
		.sink_pipe = 256 * KIB,
		.reader = READER_READS,
		.hand = {LOOP_SPLICE, MIB},
		.hand_title = "splice, 1 MiB a call",
		.splicing_times = 4,
	},
	{
		.name = "file-pipe-shell",
		.title =
			"file -> pipe as a shell makes it, reader reads; growing it is allowed",
		.source = END_FILE,
		.sink = END_PIPE,
		.sink_pipe_grown = 256 * KIB,
		.reader = READER_READS,
		.hand = {LOOP_SPLICE, MIB},
		.hand_title = "the pipe grown to 256 KiB, then splice, 1 MiB a call",
		.library_flags = FID_GROW_PIPES,
		.splicing_times = 4,
	},
	{
		.name = "pipe-pipe",
		.title = "pipe -> pipe, both of 256 KiB, reader reads",
		.source = END_PIPE,
		.source_pipe = 256 * KIB,
		.sink = END_PIPE,
		.sink_pipe = 256 * KIB,
		.reader = READER_READS,
		.hand = {LOOP_SPLICE, 256 * KIB},
		.hand_title = "splice, 256 KiB a call",
		.splicing_times = 4,
	},
	{
		.name = "pipe-file",
		.title = "pipe as a shell makes it -> file",
		.source = END_PIPE,
		.sink = END_FILE,
		.hand = {LOOP_READ_WRITE, 128 * KIB},
		.hand_title = "read and write, 128 KiB a call (a private pipe costs more)",
		.splicing_times = 1,
	},
	{
		.name = "file-file",
		.title = "file -> file on the same file system",
		.source = END_FILE,
		.sink = END_FILE,
		.hand = {LOOP_SPLICE_PIPE, 256 * KIB, 256 * KIB},
		.hand_title = "splice through a private pipe of 256 KiB",
		.splicing_times = 1,
	},
	{
		.name = "file-memory",
		.title = "file -> file on another file system, tmpfs",
		.source = END_FILE,
		.sink = END_MEMORY,
		.hand = {LOOP_SPLICE_PIPE, 256 * KIB, 256 * KIB},
		.hand_title = "splice through a private pipe of 256 KiB",
		.splicing_times = 1,
	},
	{
		.name = "file-tcp",
		.title = "file -> TCP over loopback",
		.source = END_FILE,
		.sink = END_TCP,
		.reader = READER_READS,
		.hand = {LOOP_SENDFILE, MIB},
		.hand_title = "sendfile, 1 MiB a call",
		.splicing_times = 2,
	},
	{
		.name = "tcp-file",
		.title = "TCP over loopback -> file",
		.source = END_TCP,
		.sink = END_FILE,
		.hand = {LOOP_SPLICE_PIPE, MIB, MIB},
		.hand_title = "splice through a private pipe of 1 MiB",
		.splicing_times = 1,
	},
	{
		.name = "tcp-pipe",
		.title = "TCP over loopback -> pipe of 1 MiB, reader reads",
		.source = END_TCP,
		.sink = END_PIPE,
		.sink_pipe = MIB,
		.reader = READER_READS,
		.hand = {LOOP_SPLICE, MIB},
		.hand_title = "splice, 1 MiB a call",
		.splicing_times = 2,
	},
};
const size_t pairs_count = sizeof(pairs) / sizeof(pairs[0]);
