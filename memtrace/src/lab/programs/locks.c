/* Locks memory, touches it, forks; then parent and child write to it. */
#include "lab.h"

#define PAGES 8

static void touch(char *memory)
{
	for (int page = 0; page < PAGES; page++)
		memory[page * PAGE]++;
}

int main(void)
{
	char *plain = untouched(PAGES * PAGE);
	char *locked = untouched(PAGES * PAGE);
	mark("before mlock", "plain=%p locked=%p pages=%d", plain, locked, PAGES);
	need(mlock(locked, PAGES * PAGE) == 0, "mlock");
	mark_pages("after mlock", locked, PAGES, PAGE);
	touch(plain);
	touch(locked);
	mark_pages("after the touch", locked, PAGES, PAGE);

	int over[2];
	need(pipe(over) == 0, "pipe");
	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		/* Keeps the pages shared until the parent has written. */
		char none;
		close(over[1]);
		mark_pages("child", locked, PAGES, PAGE);
		need(read(over[0], &none, 1) == 0, "read");
		_exit(0);
	}
	touch(locked);
	mark_pages("parent has written", locked, PAGES, PAGE);
	close(over[1]);
	wait_for(child);
	return 0;
}
