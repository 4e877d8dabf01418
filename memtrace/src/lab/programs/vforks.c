/* Vforks: twenty children that exec, then twenty that end. */
#include "lab.h"

#define TIMES 20

int main(void)
{
	for (int number = 0; number < 2 * TIMES; number++) {
		int execs = number < TIMES;
		pid_t child = vfork();
		if (child == 0) {
			mark("child runs", "execs=%d", execs);
			if (execs)
				execlp("true", "true", NULL);
			_exit(0);
		}
		need(child > 0, "vfork");
		mark("parent is back", "child=%d execs=%d", child, execs);
		need(wait_for(child) == 0, "the child");
	}
	return 0;
}
