/* Eight equal pages, which KSM may merge to one; then a write to one of them, and an end to the merging. */
#include "lab.h"

#define PAGES 8
#define RUN "/sys/kernel/mm/ksm/run"

static int put(long number)
{
	FILE *file = fopen(RUN, "w");
	return file != NULL && fprintf(file, "%ld", number) > 0 && fclose(file) == 0;
}

/* Switches KSM on for as long as this program lives: a child puts it back as it was, however this one ends. */
static int switch_on(long before)
{
	int alive[2];
	need(pipe(alive) == 0, "pipe");
	pid_t keeper = fork();
	need(keeper >= 0, "fork");
	if (keeper == 0) {
		char end;
		close(alive[1]);
		setsid();
		(void)!read(alive[0], &end, 1);
		put(before);
		_exit(0);
	}
	close(alive[0]);
	return put(1);
}

int main(void)
{
	long run = number_in(RUN);
	int on = run == 1;
	if (run == 0 || run == 2)
		on = switch_on(run);

	char *pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(pages != MAP_FAILED, "mmap");
	for (int page = 0; page < PAGES; page++)
		memset(pages + page * PAGE, 'k', PAGE);
	mark("before", "run=%ld on=%d a=%p b=%p c=%p", run, on, pages, pages + PAGE, pages + 2 * PAGE);
	int asked = on && madvise(pages, PAGES * PAGE, MADV_MERGEABLE) == 0;
	/* ksmd looks at a page twice before it merges it. */
	for (int wait = 0; asked && wait < 50; wait++) {
		if (number_in("/proc/self/ksm_merging_pages") >= PAGES)
			break;
		usleep(100 * 1000);
	}
	mark("waited", "asked=%d a=%p b=%p c=%p", asked, pages, pages + PAGE, pages + 2 * PAGE);
	pages[0]++;
	mark("written", "a=%p b=%p c=%p", pages, pages + PAGE, pages + 2 * PAGE);
	if (asked)
		madvise(pages, PAGES * PAGE, MADV_UNMERGEABLE);
	mark("unmerged", "a=%p b=%p c=%p", pages, pages + PAGE, pages + 2 * PAGE);
	return 0;
}
