/* A huge page: one touch brings it in; after a fork the child writes to two places in it. */
#include "lab.h"

#define HUGE (2 << 20)

/* Two MiB that begin where a huge page can. */
static char *aligned(void)
{
	char *space = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(space != MAP_FAILED, "mmap");
	return (char *)(((uintptr_t)space + HUGE - 1) & -(uintptr_t)HUGE);
}

int main(void)
{
	char *small = aligned();
	char *huge = aligned();
	/* A kernel that has no huge pages refuses both: then all pages are small. */
	madvise(small, HUGE, MADV_NOHUGEPAGE);
	madvise(huge, HUGE, MADV_HUGEPAGE);
	char *second = huge + PAGE, *last = huge + HUGE - PAGE;

	mark("before the touch", "huge=%p second=%p last=%p small=%p", huge, second, last, small);
	for (int at = 0; at < HUGE; at += PAGE)
		small[at] = 'p';
	for (int at = 0; at < HUGE; at += PAGE)
		huge[at] = 'p';
	mark("touched", "huge=%p second=%p last=%p small=%p", huge, second, last, small);

	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		mark("child", "huge=%p second=%p last=%p", huge, second, last);
		huge[0] = 'c';
		mark("child has written once", "huge=%p second=%p last=%p", huge, second, last);
		second[0] = 'c';
		mark("child has written twice", "huge=%p second=%p last=%p", huge, second, last);
		_exit(0);
	}
	wait_for(child);
	return 0;
}
