// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Two software events of one task share the prepared sample data.
 *
 * do_perf_sw_event() hands one struct perf_sample_data to every event that matches.
 * What perf_prepare_sample() added for the first of them (here a call chain: a bit in
 * sample_flags, and its length in dyn_size) is still there for the next one, whose record
 * is then longer than the fields that it asked for. The rest of the record is not written:
 * it is what lay in the buffer. The same in perf_tp_event() was mended by 1d1bfe30dad5.
 *
 * gcc -static -Wall -o repro perf-sw-sample-data.c && ./repro
 *
 * Right: 24 bytes a sample (header, ip, time). Seen on 6.12.117: more.
 */
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096L
#define PAGES 8L

static int event(uint64_t sample_type, void **buffer)
{
	struct perf_event_attr attr;
	int fd;

	memset(&attr, 0, sizeof(attr));
	attr.size = sizeof(attr);
	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = PERF_COUNT_SW_PAGE_FAULTS;
	attr.sample_period = 1;
	attr.sample_type = sample_type;
	fd = syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);
	if (fd < 0) {
		perror("perf_event_open");
		return -1;
	}
	*buffer = mmap(0, (1 + PAGES) * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*buffer == MAP_FAILED) {
		perror("mmap");
		return -1;
	}
	return fd;
}

int main(void)
{
	void *second, *first;
	struct perf_event_mmap_page *page;
	unsigned long samples = 0, wrong = 0;
	uint64_t at, head;
	volatile char *memory;

	/* The kernel puts new events first. */
	if (event(PERF_SAMPLE_IP | PERF_SAMPLE_TIME, &second) < 0 ||
	    event(PERF_SAMPLE_IP | PERF_SAMPLE_CALLCHAIN, &first) < 0)
		return 2;
	memory = mmap(0, 20 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 20; i++)
		memory[i * PAGE] = 1;

	page = second;
	head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);
	for (at = 0; at < head;) {
		struct perf_event_header *header =
			(void *)((char *)second + PAGE + at % (PAGES * PAGE));

		if (header->type == PERF_RECORD_SAMPLE) {
			samples++;
			if (header->size != 24 && !wrong++)
				printf("a sample of %u bytes, of which 24 are its fields\n",
				       header->size);
		}
		if (header->size < sizeof(*header))
			break;
		at += header->size;
	}
	printf("%lu samples, %lu of a wrong size\n", samples, wrong);
	fflush(stdout);
	if (getpid() == 1)
		reboot(RB_POWER_OFF);
	return wrong != 0;
}
