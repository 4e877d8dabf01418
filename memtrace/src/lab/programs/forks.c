/* Forks two hundred times; parent and child race to a page that both share. First both may run on any CPU, then they
 * have only one, and the parent has already used it for a while when it forks. */
#include "lab.h"
#include <time.h>

#define FORKS 200

/* Each fork has its own: two pages that nobody has touched. */
struct race {
	int first __attribute__((aligned(PAGE)));
	int through __attribute__((aligned(PAGE)));
};

static void run(struct race *race, int who)
{
	int nobody = 0;
	__atomic_compare_exchange_n(&race->first, &nobody, who, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	race->through = who;
}

static long milliseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void stay_on_this_cpu(void)
{
	cpu_set_t this_one;
	CPU_ZERO(&this_one);
	CPU_SET(sched_getcpu(), &this_one);
	need(sched_setaffinity(0, sizeof this_one, &this_one) == 0, "sched_setaffinity");
}

int main(void)
{
	size_t bytes = FORKS * sizeof(struct race);
	struct race *races = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(races != MAP_FAILED, "mmap");
	/* So that each page has a fault of its own. It fails where there are no huge pages: just as well. */
	madvise(races, bytes, MADV_NOHUGEPAGE);
	mark("start", "forks=%d", FORKS);

	for (int number = 0; number < FORKS; number++) {
		struct race *race = &races[number];
		if (number == FORKS / 2)
			stay_on_this_cpu();
		if (number >= FORKS / 2)
			for (long end = milliseconds() + number % 8; milliseconds() < end;)
				continue;

		pid_t child = fork();
		need(child >= 0, "fork");
		run(race, child == 0 ? 'c' : 'p');
		if (child == 0)
			_exit(0);
		wait_for(child);
		mark("forked", "child=%d first=%p through=%p child_first=%d", child, &race->first,
		     &race->through, race->first == 'c');
	}
	return 0;
}
