/* Something in each region of memory, and shared memory, a mapped file and a library's variable. */
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
	int self = open("/proc/self/exe", O_RDONLY);
	need(self >= 0, "open");
	volatile char *file = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, self, 0);
	need(file != MAP_FAILED, "mmap");
	(void)file[0];
	/* What printf writes to is a variable of the C library's. */
	char *library = (char *)stdout;

	mark("touched",
	     "stack=%p mapping=%p heap=%p bss=%p data=%p text=%p shared=%p file=%p library=%p",
	     &stack, mapping, heap, &bss[8 * PAGE], &data[PAGE], main, shared, file, library);
	return 0;
}
