/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* Not every program needs all of what follows. */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-variable"

/* Memory that programs map, unmap and sample: 32 pages that nothing else uses. */
#define ARENA 0x100000000000UL
#define PAGE 4096UL
#define PAGES 32
/* The scratch map's value: runs at 0, indices at 64, stacks at 4096. */
#define SCRATCH 16384

static int scratch, places, helper_tid;
static int zero_fd, elf_a, elf_b, elf_bad, elf_short, text_file;
static char fresh_path[64], a_path[64];

/* Leaves the arena only if there is no more room: lengths are cut at its end. */
static void *at(unsigned page) { return (void *)(ARENA + PAGE * (page % PAGES)); }
static size_t pages(unsigned page, unsigned count)
{
	unsigned room = PAGES - page % PAGES;
	return PAGE * (count < room ? count : room);
}

static long sys_bpf(int command, union bpf_attr *attr, unsigned size)
{
	return syscall(__NR_bpf, command, attr, size);
}

/* What maps and programs say they are of; negative where the kernel tells no types. */
static int types(void)
{
	static const unsigned char bytes[] = TYPES;
	static int kept = -1;
	union bpf_attr attr = { .btf = (uintptr_t)bytes, .btf_size = sizeof(bytes) };
	if (kept < 0 && !access("/sys/kernel/btf/vmlinux", F_OK))
		kept = sys_bpf(BPF_BTF_LOAD, &attr, 32);
	return kept;
}

/* A process is a key of a map of tasks. */
static int this_process(void)
{
	static int kept = -1;
	if (kept < 0)
		kept = syscall(__NR_pidfd_open, getpid(), 0);
	return kept;
}

static int map_create(unsigned type, unsigned key, unsigned value, unsigned entries, unsigned flags)
{
	union bpf_attr attr = { .map_type = type, .key_size = key, .value_size = value,
				.max_entries = entries, .map_flags = flags };
	if (type == BPF_MAP_TYPE_TASK_STORAGE && types() >= 0) {
		attr.btf_fd = types();
		attr.btf_key_type_id = KEY_TYPE;
		attr.btf_value_type_id = VALUE_TYPE;
	}
	return sys_bpf(BPF_MAP_CREATE, &attr, 72);
}

/* A map, or a loaded program, that is made once and then kept. */
#define ONCE(kept, make) ((kept) >= 0 ? (kept) : ((kept) = (make)))

/* A program, and where its second function begins, if it has one. */
static int load(unsigned type, const struct bpf_insn *insns, unsigned count, unsigned flags,
		unsigned attach, unsigned second)
{
	struct bpf_func_info functions[] = { { 0, MAIN_TYPE }, { second, CALLBACK_TYPE } };
	union bpf_attr attr = { .prog_type = type, .insn_cnt = count, .prog_flags = flags,
				.expected_attach_type = attach,
				.insns = (uintptr_t)insns, .license = (uintptr_t)"GPL" };
	if (!second || types() < 0)
		return sys_bpf(BPF_PROG_LOAD, &attr, 72);
	attr.prog_btf_fd = types();
	attr.func_info_rec_size = sizeof(*functions);
	attr.func_info = (uintptr_t)functions;
	attr.func_info_cnt = 2;
	return sys_bpf(BPF_PROG_LOAD, &attr, 96);
}

static long update(int map, const void *key, const void *value, uint64_t how)
{
	union bpf_attr attr = { .map_fd = map, .key = (uintptr_t)key,
				.value = (uintptr_t)value, .flags = how };
	return sys_bpf(BPF_MAP_UPDATE_ELEM, &attr, 32);
}

/* Puts a descriptor into a map of descriptors. */
static long put(int map, uint64_t key, int fd)
{
	char value[512] = { 0 };
	memcpy(value, &fd, sizeof(fd));
	return update(map, &key, value, 0);
}

/* Freezes a map that nobody else uses. */
static void freeze_new(int map, unsigned times)
{
	union bpf_attr attr = { .map_fd = map };
	while (times--)
		sys_bpf(BPF_MAP_FREEZE, &attr, 4);
	close(map);
}

static long element(int command, int map, uint64_t key, uint64_t how)
{
	static char value[4096];
	uint64_t keys[8] = { key }, position[2] = { 0 };
	union bpf_attr attr = { .map_fd = map };
	if (command == BPF_MAP_LOOKUP_BATCH) {
		memset(&attr, 0, sizeof(attr));
		attr.batch.out_batch = (uintptr_t)position;
		attr.batch.keys = (uintptr_t)keys;
		attr.batch.values = (uintptr_t)value;
		attr.batch.count = 4;
		attr.batch.map_fd = map;
		return sys_bpf(command, &attr, 56);
	}
	if (command == BPF_MAP_FREEZE)
		return sys_bpf(command, &attr, 4);
	attr.key = (uintptr_t)keys;
	if (command != BPF_MAP_DELETE_ELEM)
		attr.value = (uintptr_t)value;
	if (command == BPF_MAP_UPDATE_ELEM) {
		memset(value, 0, sizeof(value));
		attr.flags = how;
	}
	return sys_bpf(command, &attr, 32);
}

static int raw_open(const char *name, int prog)
{
	union bpf_attr attr = { .raw_tracepoint = { .name = (uintptr_t)name, .prog_fd = prog } };
	return sys_bpf(BPF_RAW_TRACEPOINT_OPEN, &attr, 16);
}

static int perf_link(int event, int prog)
{
	union bpf_attr attr = { .link_create = { .prog_fd = prog, .target_fd = event,
						 .attach_type = 41 /* BPF_PERF_EVENT */ } };
	attr.link_create.iter_info = 7; /* where newer headers have the cookie */
	return sys_bpf(BPF_LINK_CREATE, &attr, 48);
}

/* The attributes as words: older headers have no link to several uprobes. */
static int uprobe_link(int prog, uint64_t process, const uint64_t *offsets, uint64_t count)
{
	static const char path[] = "/proc/self/exe";
	uint64_t words[] = { (unsigned)prog, 48 /* BPF_TRACE_UPROBE_MULTI */, (uintptr_t)path,
			     (uintptr_t)offsets, 0, 0, count, process };
	return sys_bpf(BPF_LINK_CREATE, (union bpf_attr *)words, sizeof(words));
}

static long link_update(int link, int prog)
{
	union bpf_attr attr = { .link_update = { .link_fd = link, .new_prog_fd = prog } };
	return sys_bpf(BPF_LINK_UPDATE, &attr, 16);
}

static long link_detach(int link)
{
	union bpf_attr attr = { .link_detach = { .link_fd = link } };
	return sys_bpf(BPF_LINK_DETACH, &attr, 4);
}

static long info(int fd)
{
	char room[256] = { 0 };
	union bpf_attr attr = { .info = { .bpf_fd = fd, .info_len = sizeof(room),
					  .info = (uintptr_t)room } };
	return sys_bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, 16);
}

static long test_run(int prog)
{
	union bpf_attr attr = { .test = { .prog_fd = prog } };
	return sys_bpf(BPF_PROG_TEST_RUN, &attr, 80);
}

static long task_query(int prog)
{
	char name[64] = { 0 };
	union bpf_attr attr = { .task_fd_query = { .pid = getpid(), .fd = prog,
						   .buf_len = sizeof(name),
						   .buf = (uintptr_t)name } };
	return sys_bpf(BPF_TASK_FD_QUERY, &attr, 48);
}

static void next_program(void)
{
	union bpf_attr attr = { .start_id = 0 };
	sys_bpf(BPF_PROG_GET_NEXT_ID, &attr, 12);
	attr = (union bpf_attr){ .prog_id = 1 };
	int fd = sys_bpf(BPF_PROG_GET_FD_BY_ID, &attr, 12);
	if (fd >= 0)
		close(fd);
}

static int number_in(const char *path)
{
	char text[32] = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t got = read(fd, text, sizeof(text) - 1);
	close(fd);
	return got > 0 ? atoi(text) : -1;
}

static int tracepoint(const char *name)
{
	char path[128];
	snprintf(path, sizeof(path), "/sys/kernel/tracing/events/%s/id", name);
	int id = number_in(path);
	if (id < 0) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/tracing/events/%s/id", name);
		id = number_in(path);
	}
	return id;
}

static int pmu(const char *name)
{
	char path[128];
	snprintf(path, sizeof(path), "/sys/bus/event_source/devices/%s/type", name);
	return number_in(path);
}

static int event_open(struct perf_event_attr *attr, int thread, int cpu, int group)
{
	attr->size = 128;
	attr->wakeup_events = 1;
	return syscall(__NR_perf_event_open, attr, thread, cpu, group, PERF_FLAG_FD_CLOEXEC);
}

/* A perf ring buffer, or another mapping that is unmapped at the end. */
struct region { void *at; size_t length; int writable; };

static void region_map(struct region *region, int fd, size_t length, int writable)
{
	if (region->at)
		munmap(region->at, region->length);
	void *mapped = mmap(0, length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
	*region = mapped == MAP_FAILED ? (struct region){ 0 }
				       : (struct region){ mapped, length, writable };
}

static void region_unmap(struct region *region)
{
	if (region->at)
		munmap(region->at, region->length);
	*region = (struct region){ 0 };
}

static void region_consume(struct region *region)
{
	if (!region->at || !region->writable)
		return;
	struct perf_event_mmap_page *head = region->at;
	__atomic_store_n(&head->data_tail, __atomic_load_n(&head->data_head, __ATOMIC_ACQUIRE),
			 __ATOMIC_RELEASE);
}

/* An ELF file of one note and nothing to run. */
static int elf_file(const char *name, unsigned char id, unsigned note_length, char *path_out)
{
	static unsigned char file[16 * PAGE];
	char path[64];
	uint64_t note = 64 + 56, length = 36, header = 64;
	memset(file, 0, sizeof(file));
	memcpy(file, "\177ELF\2\1\1", 7);
#ifdef __x86_64__
	uint16_t half[] = { 3, 62 };
#else
	uint16_t half[] = { 3, 183 };
#endif
	memcpy(file + 16, half, 4);
	file[20] = 1;
	memcpy(file + 32, &header, 8);
	file[52] = 64;
	file[54] = 56;
	file[56] = 1;
	file[64] = 4; /* PT_NOTE */
	file[68] = 4;
	for (int field = 8; field <= 24; field += 8)
		memcpy(file + 64 + field, &note, 8);
	memcpy(file + 64 + 32, &length, 8);
	memcpy(file + 64 + 40, &length, 8);
	file[note] = 4;
	memcpy(file + note + 4, &note_length, 4);
	file[note + 8] = 3; /* NT_GNU_BUILD_ID */
	memcpy(file + note + 12, "GNU", 4);
	memset(file + note + 16, id, 20);
	snprintf(path, sizeof(path), "/tmp/%s-%d", name, getpid());
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, file, sizeof(file)) != sizeof(file)) {
		perror(path);
		exit(2);
	}
	if (path_out)
		strcpy(path_out, path);
	return fd;
}

/* Triggers with a forged stack: the frame pointer leads to any return addresses. */
long repro_syscall(const void *frame, long number, long first, long second);
void repro_load(const void *frame, unsigned long address);
void repro_store(const void *frame, unsigned long address);
void repro_spin(const void *frame, unsigned long turns);
extern char repro_load_at[], repro_load_done[], repro_store_at[], repro_store_done[];
extern char repro_spin_at[];
#ifdef __x86_64__
__asm__(".globl repro_syscall, repro_load, repro_store, repro_spin\n"
	".globl repro_load_at, repro_load_done, repro_store_at, repro_store_done, repro_spin_at\n"
	"repro_syscall: push %rbp; mov %rdi, %rbp; mov %rsi, %rax; mov %rdx, %rdi\n"
	"	mov %rcx, %rsi; syscall; pop %rbp; ret\n"
	"repro_load: push %rbp; mov %rdi, %rbp\n"
	"repro_load_at: movb (%rsi), %al\n"
	"repro_load_done: pop %rbp; ret\n"
	"repro_store: push %rbp; mov %rdi, %rbp\n"
	"repro_store_at: movb $0, (%rsi)\n"
	"repro_store_done: pop %rbp; ret\n"
	"repro_spin: push %rbp; mov %rdi, %rbp\n"
	"repro_spin_at: nop\n"
	"2:	dec %rsi; jnz 2b; pop %rbp; ret\n");
#define PC(context) (*(unsigned long *)&(context)->uc_mcontext.gregs[REG_RIP])
#else
__asm__(".globl repro_syscall, repro_load, repro_store, repro_spin\n"
	".globl repro_load_at, repro_load_done, repro_store_at, repro_store_done, repro_spin_at\n"
	"repro_syscall: stp x29, x30, [sp, #-16]!; mov x29, x0; mov x8, x1; mov x0, x2\n"
	"	mov x1, x3; svc #0; ldp x29, x30, [sp], #16; ret\n"
	"repro_load: stp x29, x30, [sp, #-16]!; mov x29, x0\n"
	"repro_load_at: ldrb w2, [x1]\n"
	"repro_load_done: ldp x29, x30, [sp], #16; ret\n"
	"repro_store: stp x29, x30, [sp, #-16]!; mov x29, x0\n"
	"repro_store_at: strb wzr, [x1]\n"
	"repro_store_done: ldp x29, x30, [sp], #16; ret\n"
	"repro_spin: stp x29, x30, [sp, #-16]!; mov x29, x0\n"
	"repro_spin_at: nop\n"
	"2:	subs x1, x1, #1; b.ne 2b; ldp x29, x30, [sp], #16; ret\n");
#define PC(context) (*(unsigned long *)&(context)->uc_mcontext.pc)
#endif

/* Where in the file of this program uprobes are. */
static unsigned long uprobe_at(void)
{
	unsigned long start, end, offset, found = 0, wanted = (unsigned long)repro_spin_at;
	char line[256];
	FILE *maps = fopen("/proc/self/maps", "r");
	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 && wanted >= start &&
		    wanted < end)
			found = wanted - start + offset;
	if (maps)
		fclose(maps);
	return found;
}

static void recover(int number, siginfo_t *what, void *context)
{
	unsigned long *pc = &PC((ucontext_t *)context);
	(void)what;
	if (*pc == (unsigned long)repro_load_at)
		*pc = (unsigned long)repro_load_done;
	else if (*pc == (unsigned long)repro_store_at)
		*pc = (unsigned long)repro_store_done;
	else
		signal(number, SIG_DFL);
}

static void ignore(int number) { (void)number; }

enum how { BY_SYSCALL, BY_LOAD, BY_STORE, BY_SPIN, BY_YIELD, BY_SLEEP, BY_COPY, BY_SIGNAL };

static void trigger(enum how how, unsigned page, const unsigned char *frames, int count, int times)
{
	static _Thread_local unsigned long stack[8][2] __attribute__((aligned(16)));
	struct timespec moment = { 0, 20000 };
	memset(stack, 0, sizeof(stack));
	for (int i = 0; i < count && i < 8; i++) {
		stack[i][0] = i + 1 < count && i < 7 ? (unsigned long)stack[i + 1] : 0;
		stack[i][1] = (unsigned long)at(frames[i]) + 16 + frames[i];
	}
	while (times-- > 0) {
		switch (how) {
		case BY_SYSCALL: repro_syscall(stack, __NR_flock, text_file, LOCK_UN); break;
		case BY_SIGNAL: repro_syscall(stack, __NR_kill, getpid(), SIGURG); break;
		case BY_LOAD: repro_load(stack, (unsigned long)at(page)); break;
		case BY_STORE: repro_store(stack, (unsigned long)at(page)); break;
		case BY_SPIN: repro_spin(stack, 20000); break;
		case BY_YIELD: repro_syscall(stack, __NR_sched_yield, 0, 0); break;
		case BY_SLEEP: repro_syscall(stack, __NR_nanosleep, (long)&moment, 0); break;
		case BY_COPY: if (read(zero_fd, at(page), 8)) {} break;
		}
	}
}

static void map_file(unsigned page, unsigned count, int fd, int protection, int flags, unsigned first)
{
	mmap(at(page), pages(page, count), protection,
	     flags | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, PAGE * first);
}

static void map_fresh(unsigned page, unsigned count, int protection, unsigned first)
{
	int fd = open(fresh_path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	map_file(page, count, fd, protection, MAP_PRIVATE, first);
	close(fd);
}

/* A thread that does something meanwhile. */
enum aside { ASIDE_MAP, ASIDE_PROTECT, ASIDE_LOAD, ASIDE_SYSCALL, ASIDE_DROP, ASIDE_CALL };
struct task { enum aside what; unsigned page; int times, file; void (*call)(void); };
static int tasks[2];
static unsigned own_cpu;
static unsigned given, done;

static void affinity(unsigned long mask)
{
	syscall(__NR_sched_setaffinity, 0, sizeof(mask), &mask);
}

/* Writes to a file of the kernel's, where it has that. */
static void tell_kernel(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		perror(path);
	close(fd);
}

/* The n-th allocation of what this thread does next fails; 0: none. */
static void fail_nth(unsigned n)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", n);
	/* What follows the write, closing the file, allocates nothing. */
	tell_kernel("/proc/thread-self/fail-nth", text);
}

/*
 * CPUs wait at some of these points of the kernel's code, by a seed; 0: at none.
 * Needs a kernel with bakeoff's kconfigs/kcov.patch, and of the very build that the
 * points are of.
 */
static void delays(const char *points, unsigned seed)
{
	char text[16];

	if (points)
		tell_kernel("/sys/kernel/debug/kcov_delay_points", points);
	snprintf(text, sizeof(text), "%u", seed);
	tell_kernel("/sys/kernel/debug/kcov_delay_seed", text);
}

static long microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Two threads wait for each other, 1 ms at most, and then this one for some more. */
static unsigned arrived;

static void meet_and_wait(int wait)
{
	long began = microseconds();

	__atomic_fetch_add(&arrived, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < 2 && microseconds() - began < 1000)
		;
	for (began = microseconds(); microseconds() - began < wait;)
		;
}

/* What comes next begins with what beside() was told of; above 128 it is the later one. */
static void meet(int skew)
{
	meet_and_wait(skew > 128 ? skew - 128 : 0);
}

static void *help(void *unused)
{
	struct task task;
	(void)unused;
	affinity(~0UL);
	__atomic_store_n(&helper_tid, syscall(__NR_gettid), __ATOMIC_RELEASE);
	while (read(tasks[0], &task, sizeof(task)) == sizeof(task)) {
		unsigned char page = task.page;
		for (int turn = 0; turn < task.times; turn++) {
			switch (task.what) {
			case ASIDE_MAP:
				map_file(page, 2, task.file, PROT_READ, MAP_PRIVATE, turn % 4);
				break;
			case ASIDE_PROTECT:
				mprotect(at(page), pages(page, 2), turn % 2 ? PROT_READ : PROT_NONE);
				break;
			case ASIDE_CALL:
				affinity(~(1UL << own_cpu));
				meet_and_wait(task.file < 128 ? task.file : 0);
				task.call();
				affinity(~0UL);
				break;
			case ASIDE_LOAD: trigger(BY_LOAD, page, &page, 1, 1); break;
			case ASIDE_SYSCALL: trigger(BY_SYSCALL, page, &page, 1, 1); break;
			case ASIDE_DROP:
				madvise(at(page), pages(page, 2), MADV_DONTNEED);
				break;
			}
		}
		__atomic_fetch_add(&done, 1, __ATOMIC_RELEASE);
	}
	return 0;
}

static void aside(enum aside what, unsigned page, int times, int file)
{
	struct task task = { what, page, times, file, 0 };
	if (write(tasks[1], &task, sizeof(task)) == sizeof(task))
		given++;
}

/* The other thread calls this while what follows meet() is done here. */
static void beside(void (*call)(void), int skew)
{
	struct task task = { ASIDE_CALL, 0, 1, skew, call };

	arrived = 0;
	if (write(tasks[1], &task, sizeof(task)) == sizeof(task))
		given++;
}

static void settle(void)
{
	for (int n = 0; n < 400000 && __atomic_load_n(&done, __ATOMIC_ACQUIRE) < given; n++)
		usleep(50);
}

enum child { CHILD_EXIT, CHILD_EXEC, CHILD_MAP, CHILD_SYSCALLS, CHILD_DIE };

static void child(enum child what)
{
	int status;
	/* Only one of them needs memory of its own. */
	pid_t pid = what == CHILD_MAP ? fork() : vfork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		switch (what) {
		case CHILD_EXIT: break;
		case CHILD_EXEC:
			execl("/proc/self/exe", "repro", "--end", (char *)0);
			break;
		case CHILD_MAP:
			for (int page = 0; page < 16; page += 4) {
				map_file(page, 3, -1, PROT_READ, MAP_PRIVATE, 0);
				munmap(at(page + 1), pages(page + 1, 1));
			}
			break;
		case CHILD_SYSCALLS:
			for (int n = 0; n < 8; n++)
				syscall(__NR_getppid);
			break;
		case CHILD_DIE: kill(getpid(), SIGKILL); break;
		}
		_exit(0);
	}
	for (int n = 0; pid > 0 && waitpid(pid, &status, WNOHANG) == 0; n++) {
		if (n == 20000)
			kill(pid, SIGKILL);
		usleep(100);
	}
}

static void shut(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* What lookups of user stacks answered, for those that look. */
static void show_stack(const char *what)
{
	static unsigned char *value;
	if (!getenv("REPRO_SHOW"))
		return;
	if (!value)
		value = mmap(0, SCRATCH, PROT_READ | PROT_WRITE, MAP_SHARED, scratch, 0);
	if (value == MAP_FAILED)
		return;
	for (int frame = 0; frame < 10; frame++) {
		unsigned char *entry = value + 4096 + 32 * frame;
		uint64_t offset;
		memcpy(&offset, entry + 24, 8);
		if (entry[0])
			printf("%s: frame %d: status %d, build id %02x..., offset %#lx\n", what, frame,
			       entry[0], entry[4], (unsigned long)offset);
	}
	memset(value + 4096, 0, 320);
}
