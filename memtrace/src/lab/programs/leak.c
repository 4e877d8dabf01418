/* Eight children, one after the other: each fills 8 MiB of heap, frees nothing, and ends. */
#include "lab.h"

#define BLOCKS 2048

int main(void)
{
	char *shared = touched(64 * PAGE);
	for (int round = 0; round < 8; round++) {
		pid_t child = fork();
		need(child >= 0, "fork");
		if (child == 0) {
			for (int i = 0; i < BLOCKS; i++) {
				char *block = malloc(PAGE - 16);
				need(block != NULL, "malloc");
				memset(block, 1, PAGE - 16);
			}
			mark("leaked", "round=%d shared=%p", round, shared);
			exit(0);
		}
		/* Wait for its end, but leave it as a zombie until it has been looked at. */
		siginfo_t info;
		need(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0, "waitid");
		mark("ended", "round=%d of=%d", round, child);
		wait_for(child);
	}
	return 0;
}
