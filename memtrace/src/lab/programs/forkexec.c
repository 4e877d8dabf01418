/* Forks and execs from a parent of 1, 64 and 512 MiB, some times each. */
#include "lab.h"
#include <sys/prctl.h>

#define TIMES 5
#define MIB (1024 * 1024L)

int main(void)
{
	/* Pages of 4 KiB in each case, so that the sizes can be compared. */
	need(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0, "prctl");
	const int sizes[] = {1, 64, 512};
	int mapped = 0;
	for (int size = 0; size < 3; size++) {
		void *more = mmap(NULL, (sizes[size] - mapped) * MIB, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		need(more != MAP_FAILED, "mmap");
		mapped = sizes[size];
		for (int time = 0; time < TIMES; time++) {
			mark("before a fork", "mib=%d", mapped);
			pid_t child = fork();
			need(child >= 0, "fork");
			if (child == 0) {
				execlp("true", "true", NULL);
				need(0, "exec");
			}
			need(wait_for(child) == 0, "true");
			mark("after it", "child=%d", child);
		}
	}
	return 0;
}
