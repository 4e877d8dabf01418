/* Eight children, one after the other: each fills 8 MiB of heap, frees nothing, and ends. Then the
 * parent writes to what they had in common. */
#include "lab.h"

#define BLOCKS 2048
#define SHARED 64

/* How many pages a process has in memory, as /proc/PID/statm says. */
static unsigned long resident(pid_t process)
{
	char path[40];
	unsigned long size = 0, pages = 0;
	snprintf(path, sizeof path, "/proc/%d/statm", process);
	FILE *statm = fopen(path, "r");
	need(statm != NULL && fscanf(statm, "%lu %lu", &size, &pages) == 2, path);
	fclose(statm);
	return pages;
}

int main(void)
{
	char *shared = touched(SHARED * PAGE);
	for (int round = 0; round < 8; round++) {
		pid_t child = fork();
		need(child >= 0, "fork");
		if (child == 0) {
			for (int i = 0; i < BLOCKS; i++) {
				char *block = malloc(PAGE - 16);
				need(block != NULL, "malloc");
				memset(block, 1, PAGE - 16);
			}
			mark("leaked", "resident=%lu", resident(getpid()));
			exit(0);
		}
		/* Wait for its end, but leave it as a zombie until it has been looked at. */
		siginfo_t info;
		need(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0, "waitid");
		mark("ended", "child=%d resident=%lu shared=%p", child, resident(child), shared);
		wait_for(child);
		for (int page = 0; page < SHARED; page++)
			shared[page * PAGE] = 2;
	}
	mark("end", "shared=%p pages=%d", shared, SHARED);
	return 0;
}
