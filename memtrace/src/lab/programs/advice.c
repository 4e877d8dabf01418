/* Three pages: one as usual, one that a fork is to wipe, one that it is to leave out. Children read them. */
#include "lab.h"

static char *page(char fill, int advice)
{
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(page != MAP_FAILED, "mmap");
	page[0] = fill;
	if (advice != 0)
		need(madvise(page, PAGE, advice) == 0, "madvise");
	return page;
}

static volatile char seen;

int main(void)
{
	char *usual = page('u', 0);
	char *wiped = page('w', MADV_WIPEONFORK);
	char *left_out = page('l', MADV_DONTFORK);
	mark("before the fork", "usual=%p wiped=%p left_out=%p", usual, wiped, left_out);

	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		mark("child", "usual=%p wiped=%p left_out=%p", usual, wiped, left_out);
		seen = usual[0];
		seen = wiped[0];
		mark("child has read", "usual=%p wiped=%p left_out=%p", usual, wiped, left_out);
		/* The last thing that it does. */
		seen = left_out[0];
		_exit(0);
	}
	wait_for(child);
	seen = wiped[0];
	seen = left_out[0];
	mark("parent", "usual=%p wiped=%p left_out=%p", usual, wiped, left_out);
	return 0;
}
