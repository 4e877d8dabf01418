/* A fork, then writes by the child, by the parent, and by who is left. */
#include "lab.h"

/* Three pages next to each other in the data segment. */
static char pages[3 * PAGE] __attribute__((aligned(PAGE))) = {1};

int main(void)
{
	for (int page = 0; page < 3; page++)
		pages[page * PAGE] = 'p';
	mark("before the fork", "first=%p second=%p third=%p code=%p", &pages[0], &pages[PAGE],
	     &pages[2 * PAGE], main);

	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		mark("child", "first=%p second=%p third=%p code=%p", &pages[0], &pages[PAGE],
		     &pages[2 * PAGE], main);
		pages[0] = 'c';
		mark("child has written", "first=%p second=%p third=%p code=%p", &pages[0],
		     &pages[PAGE], &pages[2 * PAGE], main);
		_exit(0);
	}
	wait_for(child);
	/* Nobody else has them any more. */
	pages[PAGE] = 'P';
	mark("parent has written", "first=%p second=%p third=%p code=%p was=%d", &pages[0],
	     &pages[PAGE], &pages[2 * PAGE], main, pages[0]);
	return 0;
}
