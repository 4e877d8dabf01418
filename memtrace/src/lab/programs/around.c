/* A file of 32 pages is mapped twice. Of one mapping each page is read, of the other each is written. */
#include "lab.h"

#define PAGES 32

static volatile char *map(int file)
{
	char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	need(memory != MAP_FAILED, "mmap");
	return memory;
}

int main(void)
{
	/* What is written to a file stays in memory, in the page cache. */
	static char content[PAGES * PAGE] = {1};
	FILE *temporary = tmpfile();
	need(temporary != NULL, "tmpfile");
	int file = fileno(temporary);
	need(write(file, content, sizeof content) == (ssize_t)sizeof content, "write");

	volatile char *read_from = map(file), *written_to = map(file);
	mark_pages("read: mapped", (char *)read_from, PAGES, PAGE);
	(void)read_from[0];
	mark_pages("read: the first page", (char *)read_from, PAGES, PAGE);
	for (int page = 1; page < PAGES; page++)
		(void)read_from[page * PAGE];
	mark_pages("read: all pages", (char *)read_from, PAGES, PAGE);

	mark_pages("written: mapped", (char *)written_to, PAGES, PAGE);
	written_to[0] = 1;
	mark_pages("written: the first page", (char *)written_to, PAGES, PAGE);
	for (int page = 1; page < PAGES; page++)
		written_to[page * PAGE] = 1;
	mark_pages("written: all pages", (char *)written_to, PAGES, PAGE);
	return 0;
}
