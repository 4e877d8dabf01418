/* Reads and writes pages of uninitialised data. */
#include "lab.h"

static char pages[3 * PAGE] __attribute__((aligned(PAGE)));

/* How many bytes of a page are not zero. */
static int set(int page)
{
	int count = 0;
	for (int i = 0; i < PAGE; i++)
		count += pages[page * PAGE + i] != 0;
	return count;
}

#define VALUES "first=%p second=%p third=%p set1=%d set2=%d"

int main(void)
{
	mark("start", "first=%p second=%p third=%p", &pages[0], &pages[PAGE], &pages[2 * PAGE]);
	int set1 = set(0), set2 = set(1);
	mark("read", VALUES, &pages[0], &pages[PAGE], &pages[2 * PAGE], set1, set2);
	pages[0] = 1;
	pages[2 * PAGE] = 1;
	mark("written", VALUES " set3=%d", &pages[0], &pages[PAGE], &pages[2 * PAGE], set(0), set(1),
	     set(2));
	return 0;
}
