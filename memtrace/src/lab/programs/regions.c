/* Something in each region of memory, and shared memory and a variable of a library. */
#include "lab.h"

static char data[2 * PAGE] = "initialised";
static char bss[16 * PAGE];

int main(void)
{
	char stack = 's';
	data[PAGE] = 'd';
	bss[8 * PAGE] = 'b';
	char *heap = malloc(100);
	heap[0] = 'h';
	char *mapping = touched(PAGE);

	char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(shared != MAP_FAILED, "mmap");
	shared[0] = 's';
	/* What printf writes to is a variable of the C library's. */
	char *library = (char *)stdout;

	mark("touched", "stack=%p mapping=%p heap=%p bss=%p data=%p text=%p shared=%p library=%p",
	     &stack, mapping, heap, &bss[8 * PAGE], &data[PAGE], main, shared, library);
	return 0;
}
