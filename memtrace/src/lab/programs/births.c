/* A process makes a child by each of fork, vfork, clone and clone3, and by the system call that fork once was. Before, it
 * opens a file; the child of fork reads ten bytes of it. */
#include "lab.h"
#include <linux/sched.h>

static char stack[16 * PAGE] __attribute__((aligned(16)));

/* The process that has done the statement before fork, and the one that has done the statement after it. */
static pid_t before, after;

/* What vfork returned in the child, whose memory is its parent's. */
static volatile pid_t vfork_in_child = -1;

static int ends(void *unused)
{
	(void)unused;
	return 0;
}

static void by_fork(int file)
{
	before = getpid();
	pid_t child = fork();
	after = getpid();
	need(child >= 0, "fork");
	if (child == 0) {
		char ten[10];
		need(read(file, ten, sizeof ten) == sizeof ten, "read");
		mark("child of fork", "before=%d after=%d returned=%d file=%d kcmp=%d", before, after, child, file,
		     getppid());
		_exit(0);
	}
	need(wait_for(child) == 0, "the child of fork");
	mark("fork", "before=%d after=%d returned=%d file=%d child=%d", before, after, child, file, child);
}

/* Younger architectures, such as arm64, have no system call fork. */
static void by_the_old_system_call(void)
{
#ifdef SYS_fork
	pid_t child = (pid_t)syscall(SYS_fork);
	need(child >= 0, "the system call fork");
	if (child == 0)
		_exit(0);
	need(wait_for(child) == 0, "the child of the system call fork");
	mark("system call fork", "child=%d", child);
#endif
}

static void by_vfork(void)
{
	pid_t child = vfork();
	if (child == 0) {
		vfork_in_child = child;
		_exit(0);
	}
	need(child > 0, "vfork");
	need(wait_for(child) == 0, "the child of vfork");
	mark("vfork", "child=%d in_child=%d", child, vfork_in_child);
}

static void by_clone(void)
{
	pid_t child = clone(ends, stack + sizeof stack, CLONE_FILES | CLONE_FS | SIGCHLD, NULL);
	need(child > 0, "clone");
	need(wait_for(child) == 0, "the child of clone");
	mark("clone", "child=%d", child);
}

static void by_clone3(void)
{
	struct clone_args arguments = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};
	pid_t child = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
	if (child == 0)
		_exit(0);
	/* A kernel before 5.3, or a container, may not have it. */
	if (child < 0)
		return;
	need(wait_for(child) == 0, "the child of clone3");
	mark("clone3", "child=%d", child);
}

int main(void)
{
	/* Something that a child can inherit. */
	nice(5);
	int file = open("/proc/self/exe", O_RDONLY);
	need(file >= 0, "open");
	mark("before", "file=%d", file);
	by_fork(file);
	by_the_old_system_call();
	by_vfork();
	by_clone();
	by_clone3();
	return 0;
}
