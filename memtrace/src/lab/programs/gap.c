/* Two mappings that grow downwards, as a stack does, each with another mapping some way below it: one that
 * can be written, one that nobody may access. They are touched page by page, from the top, until that fails. */
#include "lab.h"
#include <sys/resource.h>

#define ROOM (2 << 20)

static char *below, *top;

/* The touch has failed. */
static void refused(int signal, siginfo_t *info, void *unused)
{
	(void)signal;
	(void)unused;
	mark("refused", "below=%p top=%p at=%p", below, top, info->si_addr);
	_exit(0);
}

static void grow(int protection)
{
	struct sigaction action = {.sa_sigaction = refused, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &action, NULL);

	/* Room where nothing is mapped; then a page at its bottom, and the one that grows at its top. */
	below = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(below != MAP_FAILED && munmap(below, ROOM) == 0, "room");
	top = below + ROOM - PAGE;
	need(mmap(below, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == below, "mmap");
	need(mmap(top, PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0) == top, "mmap");
	mark(protection == PROT_NONE ? "above one that nobody may access" : "above one that can be written",
	     "below=%p top=%p", below, top);
	for (volatile char *at = top; at >= below + PAGE; at -= PAGE)
		*at = 1;
	/* It has reached the mapping below. */
	mark("reached", "below=%p top=%p", below, top);
	_exit(0);
}

int main(void)
{
	/* The limit on the size of a stack is not to be in the way. */
	struct rlimit limit;
	need(getrlimit(RLIMIT_STACK, &limit) == 0, "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	need(setrlimit(RLIMIT_STACK, &limit) == 0, "setrlimit");

	const int protections[] = {PROT_READ | PROT_WRITE, PROT_NONE};
	for (int which = 0; which < 2; which++) {
		pid_t child = fork();
		need(child >= 0, "fork");
		if (child == 0)
			grow(protections[which]);
		need(wait_for(child) == 0, "a child");
	}
	return 0;
}
