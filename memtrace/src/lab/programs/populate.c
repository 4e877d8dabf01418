/* Maps 32 pages twice, once with MAP_POPULATE, and writes to each page. */
#include "lab.h"

#define PAGES 32

static void use(const char *mapped, const char *written, int more_flags)
{
	char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | more_flags, -1, 0);
	need(memory != MAP_FAILED, "mmap");
	mark_pages(mapped, memory, PAGES, PAGE);
	for (int page = 0; page < PAGES; page++)
		memory[page * PAGE] = 1;
	mark_pages(written, memory, PAGES, PAGE);
}

int main(void)
{
	use("plain: mapped", "plain: written", 0);
	use("populated: mapped", "populated: written", MAP_POPULATE);
	return 0;
}
