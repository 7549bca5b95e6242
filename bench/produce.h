/* SPDX-License-Identifier: MIT */
/*
 * A producer that sends memory into a pipe of 1 MiB, and the consumer behind it.
 */
#ifndef FID_BENCH_PRODUCE_H
#define FID_BENCH_PRODUCE_H

#include "stage.h"

/* A huge page. */
#define SLAB_BYTES (2 * MIB)

struct production {
	enum reader reader;
	size_t read_bytes; /* that the consumer asks for at once */
	size_t block;      /* that the producer sends at once */
	uint64_t volume;   /* in all */
	bool is_numbered;  /* each word of a block is the block's number, and that is checked */
	bool is_command;   /* run() becomes one, which does not end by itself */
	/* Sends all to descriptor 1. Returns 0 or -errno. */
	int (*run)(const struct production *production);
};

void produce_sample(const struct production *production, struct sample *ret_sample);

/* Memory of its own in huge pages, as far as there are any. */
void *slab_new(void);

/* vmsplice(2) until all is sent. Returns 0 or -errno. */
int slab_send(void *at, size_t bytes);

/* New data: a store of the number to each word, which is as cheap as new data can be. */
void fill_block(void *at, size_t bytes, uint64_t number);

#endif
