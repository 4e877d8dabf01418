/* A child made by fork reads from a file and closes it; then one that shares the table of open files does so. */
#include "lab.h"

#define LENGTH 10
/* A number that nothing else takes once it is free. */
#define NUMBER 100

static int reads_and_closes(void *nothing)
{
	char bytes[LENGTH];
	(void)nothing;
	need(read(NUMBER, bytes, LENGTH) == LENGTH, "read");
	mark("child has read", "kcmp=%d", getppid());
	need(close(NUMBER) == 0, "close");
	mark("child has closed", "kcmp=%d", getppid());
	return 0;
}

int main(void)
{
	int file = open("/proc/self/exe", O_RDONLY);
	need(file >= 0 && dup2(file, NUMBER) == NUMBER && close(file) == 0, "open");
	mark("before", "file=%d length=%d", NUMBER, LENGTH);

	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0)
		_exit(reads_and_closes(NULL));
	wait_for(child);
	mark("after fork", "child=%d", child);

	static char stack[16 * PAGE] __attribute__((aligned(16)));
	child = clone(reads_and_closes, stack + sizeof stack, CLONE_FILES | SIGCHLD, NULL);
	need(child >= 0, "clone");
	wait_for(child);
	mark("after clone", "child=%d", child);
	return 0;
}
