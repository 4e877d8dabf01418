/* A fork, then writes to pages of the data segment: by the child, by the parent while the child lives, and by the parent
 * when it is gone. */
#include "lab.h"

/* Four pages next to each other; nobody writes to the last after the fork. */
static char for_child[PAGE] __attribute__((aligned(PAGE))) = {1};
static char for_parent[PAGE] __attribute__((aligned(PAGE))) = {1};
static char for_last[PAGE] __attribute__((aligned(PAGE))) = {1};
static char for_none[PAGE] __attribute__((aligned(PAGE))) = {1};

static void say(const char *name)
{
	mark(name, "for_child=%p for_parent=%p for_last=%p for_none=%p", for_child, for_parent, for_last,
	     for_none);
}

/* The kernel holds new pages for a moment in a list of the CPU; another CPU can't see that they are free of it. */
static void stay_on_this_cpu(void)
{
	cpu_set_t this_one;
	CPU_ZERO(&this_one);
	CPU_SET(sched_getcpu(), &this_one);
	need(sched_setaffinity(0, sizeof this_one, &this_one) == 0, "sched_setaffinity");
}

int main(void)
{
	stay_on_this_cpu();
	for_child[0] = for_parent[0] = for_last[0] = for_none[0] = 'p';
	say("before the fork");

	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		for_child[0] = 'c';
		say("child has written");
		raise(SIGSTOP);
		say("child at its end");
		_exit(0);
	}
	int status;
	need(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status), "the child stops");
	for_parent[0] = 'P';
	say("parent has written");

	kill(child, SIGCONT);
	wait_for(child);
	/* Nobody else has it any more. */
	for_last[0] = 'P';
	say("last has written");
	return 0;
}
