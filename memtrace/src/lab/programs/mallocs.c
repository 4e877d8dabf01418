/* Small and large blocks from malloc, and what free does with them. */
#include "lab.h"

#define MANY 64
#define SMALL (16 << 10)
#define LARGE (4 << 20)

static void *blocks[MANY];

static void *block(size_t size)
{
	void *start = malloc(size);
	need(start != NULL, "malloc");
	return start;
}

/* 1 MiB in all. */
static void many_small(void)
{
	for (int number = 0; number < MANY; number++)
		blocks[number] = block(SMALL);
}

static void free_small(int from)
{
	for (int number = from; number < MANY; number++)
		free(blocks[number]);
}

int main(void)
{
	/* The heap's first page, so that it has a beginning. */
	mark("start", "first=%p", block(1));

	many_small();
	mark("small blocks", "lowest=%p highest=%p", blocks[0], blocks[MANY - 1]);
	free_small(0);
	mark("small blocks freed", " ");

	many_small();
	void *last = block(SMALL);
	mark("small blocks and one above", "lowest=%p highest=%p above=%p", blocks[0], blocks[MANY - 1], last);
	free_small(0);
	mark("freed all but the one above", " ");
	free(last);
	mark("freed the one above", " ");

	void *large = block(LARGE);
	mark("large block", "block=%p", large);
	free(large);
	mark("large block freed", " ");
	large = block(LARGE);
	mark("large block again", "block=%p", large);
	free(large);
	mark("large block freed again", " ");
	return 0;
}
