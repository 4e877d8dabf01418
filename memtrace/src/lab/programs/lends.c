/* A child of vfork writes to a variable of its parent's, then a child of fork does the same. */
#include "lab.h"

/* The variable, and nothing else in its page. */
static struct {
	volatile int variable;
	char rest[PAGE - sizeof(int)];
} page __attribute__((aligned(PAGE)));

int main(void)
{
	page.variable = 1;
	mark("before the vfork", "page=%p is=%d", &page, page.variable);
	pid_t child = vfork();
	if (child == 0) {
		mark("vfork's child", "page=%p is=%d kcmp=%d", &page, page.variable, getppid());
		page.variable = 2;
		mark("vfork's child has written", "page=%p is=%d", &page, page.variable);
		_exit(0);
	}
	need(child > 0, "vfork");
	mark("after the vfork", "page=%p is=%d", &page, page.variable);
	wait_for(child);

	page.variable = 1;
	mark("before the fork", "page=%p is=%d", &page, page.variable);
	child = fork();
	if (child == 0) {
		mark("fork's child", "page=%p is=%d kcmp=%d", &page, page.variable, getppid());
		page.variable = 2;
		mark("fork's child has written", "page=%p is=%d", &page, page.variable);
		_exit(0);
	}
	need(child > 0, "fork");
	wait_for(child);
	mark("after the fork", "page=%p is=%d", &page, page.variable);
	return 0;
}
