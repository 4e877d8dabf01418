/* Reads eight pages of fresh memory, then writes to the first of them. */
#include "lab.h"

#define PAGES 8

int main(void)
{
	volatile char *memory = untouched(PAGES * PAGE);
	mark_pages("mapped", (char *)memory, PAGES, PAGE);
	for (int page = 0; page < PAGES; page++)
		need(memory[page * PAGE] == 0, "fresh memory is not zero");
	mark_pages("read", (char *)memory, PAGES, PAGE);
	memory[0] = 1;
	mark_pages("written", (char *)memory, PAGES, PAGE);
	return 0;
}
