// SPDX-License-Identifier: MIT OR Apache-2.0
/* The workload of a new bake-off: one system call, tested and timed. */
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long parent(void)
{
	return syscall(SYS_getppid);
}

/* Prints KTAP: one line for each test. */
static int test(void)
{
	pid_t self = getpid();
	int status = 1, same = 1;

	pid_t child = fork();
	if (child == 0)
		_exit(parent() == self ? 0 : 1);
	waitpid(child, &status, 0);

	long before = parent();
	for (int i = 0; i < 1000; i++)
		same &= parent() == before;

	printf("KTAP version 1\n1..2\n");
	printf("%s 1 a child sees its parent\n", status == 0 ? "ok" : "not ok");
	printf("%s 2 the parent stays the same\n", same ? "ok" : "not ok");
	return status == 0 && same ? 0 : 1;
}

/* Prints a metric, as declared in bakeoff.yaml. */
static int speed(void)
{
	enum { CALLS = 20000 };
	struct timespec start, end;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < CALLS; i++)
		parent();
	clock_gettime(CLOCK_MONOTONIC, &end);

	double ns = (end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec);
	printf("metric getppid_ns %.1f ns\n", ns / CALLS);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "test") == 0)
		return test();
	if (argc > 1 && strcmp(argv[1], "speed") == 0)
		return speed();
	fprintf(stderr, "usage: workload test | speed\n");
	return 1;
}
