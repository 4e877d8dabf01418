/* Small blocks from malloc, a large one, a freed block asked for again, and blocks of many sizes. */
#include "lab.h"

#define SMALL 1000
#define LARGE (1 << 20)
#define COUNT 300

static char *written(size_t size)
{
	char *block = malloc(size);
	need(block != NULL, "malloc");
	return memset(block, 1, size);
}

int main(void)
{
	char *blocks[COUNT];
	mark("start", "size=%d", SMALL);
	for (int i = 0; i < COUNT; i++)
		blocks[i] = written(SMALL);
	mark("small blocks", "first=%p last=%p", blocks[0], blocks[COUNT - 1]);

	char *large = written(LARGE);
	mark("large block", "large=%p size=%d", large, LARGE);
	free(large);
	mark("large block freed", "size=%d", LARGE);

	mark("before the free", "old=%p", blocks[COUNT / 2]);
	free(blocks[COUNT / 2]);
	char *again = written(SMALL);
	mark("served again", "again=%p", again);

	static const size_t sizes[] = {1,   2,   3,    5,    7,    10,   13,    20,    31,     50,
				       77,  100, 200,  333,  500,  1001, 2000,  3333,  5000,   10000,
				       50001, 100000, 2000003, 3000000};
	char values[900];
	int used = 0;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		used += snprintf(values + used, sizeof values - used, "of_%zu=%p ", sizes[i],
				 written(sizes[i]));
	mark("many sizes", "most=%zu %s", _Alignof(max_align_t), values);
	return 0;
}
