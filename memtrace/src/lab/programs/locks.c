/* Locks memory, touches it, forks; then parent and child write to it. */
#include "lab.h"

#define PAGES 8

static void touch(char *memory)
{
	for (int page = 0; page < PAGES; page++)
		memory[page * PAGE]++;
}

static char *fresh(void)
{
	char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(memory != MAP_FAILED, "mmap");
	madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE);
	return memory;
}

int main(void)
{
	char *plain = fresh();
	char *locked = fresh();
	mark("before mlock", "plain=%p locked=%p pages=%d", plain, locked, PAGES);
	need(mlock(locked, PAGES * PAGE) == 0, "mlock");
	mark("after mlock", "plain=%p locked=%p", plain, locked);
	touch(plain);
	touch(locked);
	mark("after the touch", "plain=%p locked=%p", plain, locked);

	int go[2];
	need(pipe(go) == 0, "pipe");
	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		/* Keeps the pages shared until the parent has written. */
		char end;
		close(go[1]);
		mark("child", "plain=%p locked=%p", plain, locked);
		need(read(go[0], &end, 1) == 0, "read");
		_exit(0);
	}
	mark("after the fork", "plain=%p locked=%p", plain, locked);
	touch(locked);
	mark("parent has written", "plain=%p locked=%p", plain, locked);
	close(go[1]);
	wait_for(child);
	return 0;
}
