/* A fork without exec. The child looks at the parent's code, data, stack and heap before it writes to any of them,
 * then it writes, then both look at the code again. */
#include "lab.h"

#define PAGES "code=%p data=%p stack=%p heap=%p"

static char data[3 * PAGE] = "data";

int main(void)
{
	char stack[3 * PAGE] = "stack";
	char *heap = malloc(3 * PAGE);
	need(heap != NULL, "malloc");
	/* The page in the middle of each: nothing else is in it. */
	char *in_data = &data[PAGE], *in_stack = &stack[PAGE], *in_heap = &heap[PAGE];
	*in_data = *in_stack = *in_heap = 'p';
	mark("before the fork", PAGES, main, in_data, in_stack, in_heap);

	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		mark("child has not written", PAGES, main, in_data, in_stack, in_heap);
		*in_data = *in_stack = *in_heap = 'c';
		mark("child has written", PAGES, main, in_data, in_stack, in_heap);
		_exit(0);
	}
	wait_for(child);
	mark("parent at the end", PAGES, main, in_data, in_stack, in_heap);
	return 0;
}
