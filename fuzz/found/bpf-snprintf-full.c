// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * bpf_snprintf() passes over an address for which there is no room left.
 *
 * bstr_printf() prints %pI4, %pI6 and %pB from strings that bpf_bprintf_prepare() made
 * before. It looks at them only "if (str < end)": once the buffer is full the string is
 * neither counted nor skipped. So the helper answers fewer bytes than it would take, and
 * what comes behind is printed from the bytes of that string. Strings (%s) are counted and
 * skipped. The same for bpf_seq_printf() is hidden by its buffer's size.
 *
 * gcc -static -Wall -o repro bpf-snprintf-full.c && ./repro
 *
 * Right: 19 and 19 (with its end, "12345678 127.0.0.1" has 19 bytes). Seen on 6.12.117:
 * 19 with room for 32, 10 with room for 4.
 */
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(__NR_bpf, command, attr, sizeof(*attr));
}

static int array(uint32_t size, uint32_t flags, const void *value)
{
	union bpf_attr attr;
	uint32_t key = 0;
	int map;

	memset(&attr, 0, sizeof(attr));
	attr.map_type = BPF_MAP_TYPE_ARRAY;
	attr.key_size = 4;
	attr.value_size = size;
	attr.max_entries = 1;
	attr.map_flags = flags;
	map = bpf(BPF_MAP_CREATE, &attr);
	memset(&attr, 0, sizeof(attr));
	attr.map_fd = map;
	attr.key = (uintptr_t)&key;
	attr.value = (uintptr_t)value;
	bpf(BPF_MAP_UPDATE_ELEM, &attr);
	return map;
}

/* What bpf_snprintf(out, room, "%d %pI4", ...) answers. */
static long printed(int room)
{
	static const char format[16] = "%d %pI4";
	static const unsigned char desk[64] = { 127, 0, 0, 1 };
	int text = array(sizeof(format), BPF_F_RDONLY_PROG, format);
	int map = array(sizeof(desk), 0, desk);
	struct bpf_insn code[] = {
		{ 0xb7, 1, 0, 0, 12345678 },
		{ 0x7b, 10, 1, -16, 0 },	/* the number */
		{ 0x18, 1, 2, 0, map }, { 0 },
		{ 0x7b, 10, 1, -8, 0 },		/* the address */
		{ 0x18, 1, 2, 0, map }, { 0, 0, 0, 0, 16 },
		{ 0xb7, 2, 0, 0, room },
		{ 0x18, 3, 2, 0, text }, { 0 },
		{ 0xbf, 4, 10, 0, 0 },
		{ 0x07, 4, 0, 0, -16 },
		{ 0xb7, 5, 0, 0, 16 },
		{ 0x85, 0, 0, 0, BPF_FUNC_snprintf },
		{ 0x18, 1, 2, 0, map }, { 0, 0, 0, 0, 8 },
		{ 0x7b, 1, 0, 0, 0 },		/* the answer */
		{ 0xb7, 0, 0, 0, 0 },
		{ 0x95, 0, 0, 0, 0 },
	};
	unsigned char value[64] = { 0 };
	union bpf_attr attr;
	uint32_t key = 0;
	int program, link;
	long answer;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = text;
	bpf(BPF_MAP_FREEZE, &attr);
	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT;
	attr.insns = (uintptr_t)code;
	attr.insn_cnt = sizeof(code) / sizeof(*code);
	attr.license = (uintptr_t)"GPL";
	program = bpf(BPF_PROG_LOAD, &attr);
	if (program < 0)
		perror("BPF_PROG_LOAD");
	memset(&attr, 0, sizeof(attr));
	attr.raw_tracepoint.name = (uintptr_t)"sys_enter";
	attr.raw_tracepoint.prog_fd = program;
	link = bpf(BPF_RAW_TRACEPOINT_OPEN, &attr);
	getppid();
	close(link);
	memset(&attr, 0, sizeof(attr));
	attr.map_fd = map;
	attr.key = (uintptr_t)&key;
	attr.value = (uintptr_t)value;
	bpf(BPF_MAP_LOOKUP_ELEM, &attr);
	memcpy(&answer, value + 8, sizeof(answer));
	return answer;
}

int main(void)
{
	printf("with room for 32: %ld\n", printed(32));
	printf("with room for 4: %ld\n", printed(4));
	fflush(stdout);
	if (getpid() == 1)
		reboot(RB_POWER_OFF);
	return 0;
}
