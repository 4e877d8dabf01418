/* Calls itself, each time with another page of local variables: first 128 times, then in two children
 * with no end, under two limits of the stack's size. */
#include "lab.h"
#include <sys/resource.h>

/* Not an argument: so a call has nothing on the stack but its array, and touches it from high to low. */
static int levels;

static void descend(void)
{
	volatile char room[PAGE];
	room[0] = 1;
	if (levels-- == 0)
		mark("at the bottom", "here=%p", &room[0]);
	else
		descend();
}

static void overflow(rlim_t limit)
{
	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		no_core();
		struct rlimit now;
		need(getrlimit(RLIMIT_STACK, &now) == 0, "getrlimit");
		now.rlim_cur = limit;
		need(setrlimit(RLIMIT_STACK, &now) == 0, "setrlimit");
		mark("limited", "limit=%lu", (unsigned long)limit);
		levels = -1;
		descend();
		_exit(0);
	}
	wait_for(child);
}

int main(void)
{
	mark("start", "here=%p", __builtin_frame_address(0));
	mark("at the top", "here=%p", __builtin_frame_address(0));
	levels = 128;
	descend();

	struct rlimit limit;
	need(getrlimit(RLIMIT_STACK, &limit) == 0, "getrlimit");
	/* No limit, or a very high one, would take all memory. */
	if (limit.rlim_cur > 64 << 20)
		limit.rlim_cur = 64 << 20;
	overflow(limit.rlim_cur);
	overflow(limit.rlim_cur / 2);
	return 0;
}
