// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Tests getpriority(2) and measures it.
 *
 *     getpriority test          KTAP on standard output
 *     getpriority speed CALLS   a line `metric call_ns VALUE ns`
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int tests;
static int failures;

static void result(int ok, const char *name)
{
	printf("%sok %d %s\n", ok ? "" : "not ", ++tests, name);
	failures += !ok;
}

/* As the kernel has it: 40 for nice -20 down to 1 for nice 19. */
static long raw(int which, id_t who)
{
	return syscall(SYS_getpriority, which, who);
}

/* A child of its own process group that waits, at this nice value. */
static pid_t sleeper(int nice_value)
{
	pid_t child = fork();

	if (child == 0) {
		setpgid(0, 0);
		setpriority(PRIO_PROCESS, 0, nice_value);
		for (;;)
			pause();
	}
	if (child > 0) {
		setpgid(child, child);
		setpriority(PRIO_PROCESS, child, nice_value);
	}
	return child;
}

static int test(void)
{
	pid_t low = sleeper(10), high = sleeper(-20);

	printf("TAP version 13\n1..6\n");
	setpriority(PRIO_PROCESS, 0, 5);
	result(raw(PRIO_PROCESS, 0) == 15, "own process");
	result(raw(PRIO_PROCESS, low) == 10, "another process");
	result(raw(PRIO_PGRP, low) == 10, "a process group");
	result(raw(PRIO_USER, 0) == 40, "the user's highest");
	result(raw(PRIO_USER, 4711) == -1 && errno == ESRCH, "a user without processes");
	result(raw(PRIO_USER + 1, 0) == -1 && errno == EINVAL, "nonsense");
	kill(low, SIGKILL);
	kill(high, SIGKILL);
	while (wait(NULL) > 0)
		;
	return failures != 0;
}

static int speed(long calls)
{
	struct timespec from, to;
	double ns;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long i = 0; i < calls; i++)
		raw(PRIO_USER, 0);
	clock_gettime(CLOCK_MONOTONIC, &to);
	ns = (to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec);
	printf("metric call_ns %.1f ns\n", ns / calls);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "test"))
		return test();
	if (argc == 3 && !strcmp(argv[1], "speed") && atol(argv[2]) > 0)
		return speed(atol(argv[2]));
	fprintf(stderr, "usage: %s test | speed CALLS\n", argv[0]);
	return 2;
}
