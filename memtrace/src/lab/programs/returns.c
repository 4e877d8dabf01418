/* A function calls vfork, and its child ends, or execs, or does what it must not: it returns from that function. Each of
 * the three is done by a process that is there for nothing else. */
#include "lab.h"

enum way { ENDS, EXECS, RETURNS };

static const char *const ways[] = {"ends", "execs", "returns"};

enum who { THE_CHILD, THE_PARENT };

static enum who calls_vfork(enum way way)
{
	pid_t child = vfork();
	if (child == 0) {
		if (way == ENDS)
			_exit(0);
		if (way == EXECS)
			execlp("true", "true", NULL);
		return THE_CHILD;
	}
	need(child > 0, "vfork");
	return THE_PARENT;
}

static enum who calls_who_calls_vfork(enum way way)
{
	enum who who = calls_vfork(way);
	return who;
}

/* A call like any other. Its numbers come to lie where calls_vfork had kept what it needs to return. */
static void uses_the_stack(void)
{
	volatile long numbers[64] __attribute__((unused));
	for (int at = 0; at < 64; at++)
		numbers[at] = at;
}

static int thrown_away(enum way way)
{
	/* Whatever happens, it ends soon and leaves no core. */
	alarm(5);
	no_core();
	/* Room for what libc does after main has returned: it shall not reach the calls below. */
	char room[64 * 1024] __attribute__((unused));

	if (calls_who_calls_vfork(way) == THE_CHILD) {
		alarm(5);
		mark("child has returned", "way=%d", way);
		uses_the_stack();
		return 0;
	}
	mark("parent has returned", "way=%d", way);
	return 0;
}

int main(void)
{
	for (enum way way = ENDS; way <= RETURNS; way++) {
		pid_t child = fork();
		need(child >= 0, "fork");
		if (child == 0)
			return thrown_away(way);
		mark(ways[way], "child=%d status=%d", child, wait_for(child));
	}
	return 0;
}
