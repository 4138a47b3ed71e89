/* SPDX-License-Identifier: MIT OR Apache-2.0 */
static void mount_at(const char *kind, const char *where)
{
	mkdir(where, 0755);
	mount(kind, where, kind, 0, 0);
}

static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, value, strlen(value)) < 0)
			perror(path);
		close(fd);
	}
}

static void prepare(unsigned cpu)
{
	struct sigaction faults = { .sa_sigaction = recover, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigaction harmless = { .sa_handler = ignore, .sa_flags = SA_RESTART };
	int harmless_ones[] = { SIGUSR1, SIGUSR2, SIGURG, SIGTRAP, SIGIO };
	pthread_t thread;
	sigaction(SIGSEGV, &faults, 0);
	sigaction(SIGBUS, &faults, 0);
	for (unsigned n = 0; n < sizeof(harmless_ones) / sizeof(*harmless_ones); n++)
		sigaction(harmless_ones[n], &harmless, 0);
	own_cpu = cpu;
	affinity(1UL << cpu);
	zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	elf_a = elf_file("elf-a", 0xaa, 20, a_path);
	elf_b = elf_file("elf-b", 0xbb, 20, 0);
	elf_bad = elf_file("elf-bad", 0xcc, 0x7ffffff0, 0);
	elf_short = elf_file("elf-short", 0xee, 8, 0);
	close(elf_file("elf-fresh", 0xdd, 20, fresh_path));
	text_file = elf_file("text", 0, 0, 0);
	/* A text, for it is no ELF file. */
	for (int n = 0; n < 1000; n++)
		if (pwrite(text_file, "no executable\n", 14, 14 * n) < 0)
			perror("write");
	scratch = map_create(BPF_MAP_TYPE_ARRAY, 4, SCRATCH, 1, BPF_F_MMAPABLE);
	places = map_create(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 8, 0);
	if (scratch < 0 || places < 0) {
		perror("bpf: this needs root, or CAP_BPF and CAP_PERFMON");
		exit(2);
	}
	for (uint64_t n = 0; n < 3; n++) {
		static unsigned char *value;
		if (!value)
			value = mmap(0, SCRATCH, PROT_READ | PROT_WRITE, MAP_SHARED, scratch, 0);
		memcpy(value + 64 + 8 * n, &n, 8);
	}
	if (pipe(tasks) || pthread_create(&thread, 0, help, 0)) {
		perror("helper thread");
		exit(2);
	}
	while (!__atomic_load_n(&helper_tid, __ATOMIC_ACQUIRE))
		usleep(100);
	dispatch();
}

/* repro [TIMES [PROCESSES]]: runs the program so often in each of so many processes. */
int main(int argc, char **argv)
{
	int times = argc > 1 ? atoi(argv[1]) : TIMES,
	    processes = argc > 2 ? atoi(argv[2]) : PROCESSES;
	int first = getpid() == 1;
	if (argc > 1 && !strcmp(argv[1], "--end"))
		return 0;
	if (first) { /* the first process of a machine made for this */
		mount_at("proc", "/proc");
		mount_at("sysfs", "/sys");
		mount_at("debugfs", "/sys/kernel/debug");
		mount_at("tracefs", "/sys/kernel/tracing");
		mount_at("devtmpfs", "/dev");
		mkdir("/tmp", 0755);
		set("/sys/kernel/rcu_expedited", "1");
		set("/proc/sys/kernel/hung_task_timeout_secs", "15");
		set("/proc/sys/kernel/hung_task_check_interval_secs", "5");
		set("/proc/sys/kernel/hung_task_warnings", "-1");
		times = times ? times : TIMES;
		processes = processes ? processes : PROCESSES;
	}
	for (int number = 0; number < processes; number++) {
		pid_t pid = fork();
		if (pid == 0) {
			prepare(number % 2);
			for (int n = 0; n < times; n++)
				once();
			_exit(0);
		}
		if (pid < 0)
			perror("fork");
	}
	while (wait(0) > 0 || errno == EINTR)
		;
	printf("repro: done\n");
	fflush(stdout);
	if (first) {
		sleep(1);
		sync();
		reboot(RB_AUTOBOOT);
		reboot(RB_POWER_OFF);
	}
	return 0;
}
