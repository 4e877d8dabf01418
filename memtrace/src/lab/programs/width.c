/* Asks for a page at ever higher addresses, and writes to those that it gets. Then a child reads from
 * the kernel's part of the address space. */
#include "lab.h"

static char *highest;

/* Below this address. The very last page of the user's part is never given out: take the one below. */
static void ask_below(unsigned long end)
{
	char *wanted = (char *)(end - 2 * PAGE);
	char *got = mmap(wanted, PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (got == wanted)
		got[0] = 1;
	/* Where something of the program's is already, there can be something, too. */
	if (got == wanted || (got == MAP_FAILED && errno == EEXIST))
		highest = wanted;
}

int main(void)
{
	ask_below(2UL << 30);
	ask_below(3UL << 30);
	for (int bits = 32; bits < 64; bits++)
		ask_below(1UL << bits);

	volatile char *kernel = (char *)(-1UL << 47);
	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		no_core();
		mark("child", "kernel=%p", kernel);
		_exit(*kernel);
	}
	wait_for(child);
	mark("end", "highest=%p child=%d", highest, child);
	return 0;
}
