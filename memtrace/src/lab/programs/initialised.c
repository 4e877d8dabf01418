/* Reads, then writes initialised data: a global variable, a static one, and one that is to stay. And
 * looks at the same place of the program's file. */
#include "lab.h"

struct page {
	char text[PAGE];
};

struct page global __attribute__((aligned(PAGE))) = {"the global variable"};

/* A mapping of just the page of the program's file that begins like this. */
static volatile char *in_file(const char *text)
{
	int self = open("/proc/self/exe", O_RDONLY);
	need(self >= 0, "open");
	static char page[PAGE];
	off_t at = 0;
	do
		need(pread(self, page, PAGE, at) > 0, "the page is not in the file");
	while (strcmp(page, text) != 0 && (at += PAGE));
	char *mapped = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self, at);
	need(mapped != MAP_FAILED, "mmap");
	close(self);
	return mapped;
}

int main(void)
{
	static struct page local __attribute__((aligned(PAGE))) = {"the static variable"};
	volatile char *file1 = in_file(global.text), *file2 = in_file(local.text);
	mark("read", "global=%p static=%p file1=%p file2=%p first1=%d first2=%d", global.text,
	     local.text, file1, file2, file1[0], file2[0]);

	global.text[0] = 'T';
	local.text[0] = 'T';
	mark("written", "global=%p static=%p file1=%p file2=%p first1=%d first2=%d", global.text,
	     local.text, file1, file2, file1[0], file2[0]);
	return 0;
}
