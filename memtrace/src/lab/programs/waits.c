/* Three clones: a child without CLONE_VFORK, one with it that ends, and one with it that execs. */
#include "lab.h"

static int go[2];
static char stack[16 * PAGE] __attribute__((aligned(16)));

/* Ends only when its parent says so: the parent has to run meanwhile. */
static int told_to_end(void *unused)
{
	(void)unused;
	char byte;
	need(read(go[0], &byte, 1) == 1, "read");
	mark("child is about to end", "vfork=0");
	return 0;
}

/* Takes its time; the parent could run meanwhile. */
static int ends(void *unused)
{
	(void)unused;
	usleep(20 * 1000);
	mark("child is about to end", "vfork=1");
	return 0;
}

static int execs(void *unused)
{
	(void)unused;
	usleep(20 * 1000);
	mark("child is about to exec", "vfork=1");
	execlp("true", "true", NULL);
	need(0, "exec");
	return 0;
}

static pid_t clone_to(int (*child)(void *), int flags)
{
	pid_t pid = clone(child, stack + sizeof stack, flags | SIGCHLD, NULL);
	need(pid > 0, "clone");
	return pid;
}

int main(void)
{
	need(pipe(go) == 0, "pipe");

	pid_t child = clone_to(told_to_end, 0);
	mark("without the flag", "child=%d", child);
	need(write(go[1], "", 1) == 1, "write");
	need(wait_for(child) == 0, "the first child");

	child = clone_to(ends, CLONE_VFORK);
	mark("with the flag, ended", "child=%d", child);
	need(wait_for(child) == 0, "the second child");

	child = clone_to(execs, CLONE_VFORK);
	mark("with the flag, execed", "child=%d", child);
	need(wait_for(child) == 0, "the third child");
	return 0;
}
