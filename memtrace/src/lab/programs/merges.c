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
		/* What ends the others at the terminal does not end this one. */
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

	char *pages = untouched(PAGES * PAGE);
	memset(pages, 'k', PAGES * PAGE);
	mark("start", "run=%ld on=%d pages=%d", run, on, PAGES);
	mark_pages("before", pages, PAGES, PAGE);
	int asked = on && madvise(pages, PAGES * PAGE, MADV_MERGEABLE) == 0;
	/* ksmd merges a page that it has found unchanged twice. Five seconds are plenty. */
	for (int wait = 0; asked && wait < 50; wait++) {
		if (number_in("/proc/self/ksm_merging_pages") >= PAGES)
			break;
		usleep(100 * 1000);
	}
	mark_pages("merged", pages, PAGES, PAGE);
	pages[0] = 'K';
	mark_pages("written", pages, PAGES, PAGE);
	if (asked)
		madvise(pages, PAGES * PAGE, MADV_UNMERGEABLE);
	mark_pages("unmerged", pages, PAGES, PAGE);
	return 0;
}
