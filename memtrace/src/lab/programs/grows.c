/* Forks with more and more memory in use, in pages of 4 KiB and then in pages of 2 MiB. */
#include "lab.h"

#define ROUNDS 5

static void forks(const char *pages, int advice, size_t mib)
{
	char *memory = populated(mib << 20, advice);
	mark(pages, "mib=%zu", mib);
	for (int round = 0; round < ROUNDS; round++) {
		pid_t child = fork();
		need(child >= 0, "fork");
		if (child == 0)
			_exit(0);
		wait_for(child);
	}
	munmap(memory, mib << 20);
}

int main(void)
{
	for (size_t mib = 8; mib <= 128; mib *= 4) {
		forks("small pages", MADV_NOHUGEPAGE, mib);
		forks("huge pages", MADV_HUGEPAGE, mib);
	}
	mark("done", "rounds=%d", ROUNDS);
	return 0;
}
