/* Maps 64 MiB, and touches one page in every 4 MiB of them. */
#include "lab.h"

#define SIZE (64 << 20)
#define STEP (4 << 20)

int main(void)
{
	mark("before", " ");
	char *memory = untouched(SIZE);
	mark_pages("mapped", memory, SIZE / STEP, STEP);
	for (int at = 0; at < SIZE; at += STEP)
		memory[at] = 1;
	mark_pages("touched", memory, SIZE / STEP, STEP);
	return 0;
}
