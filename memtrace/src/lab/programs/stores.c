/* A thread stores to a private page. Then a child process stores to that page and to a shared one.
 * What does the first thread of the parent find there afterwards? */
#include "lab.h"
#include <pthread.h>

/* MAP_PRIVATE: like all data of a process. */
static volatile char *own;
/* MAP_SHARED. */
static volatile char *common;

static void tell(const char *where)
{
	mark(where, "own=%p common=%p in_own=%d in_common=%d", own, common, *own, *common);
}

static void *store(void *unused)
{
	*own = 't';
	tell("thread has stored");
	return unused;
}

int main(void)
{
	own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	common = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(own != MAP_FAILED && common != MAP_FAILED, "mmap");
	*own = 'm';
	*common = 'm';
	tell("ready");

	pthread_t thread;
	need(pthread_create(&thread, NULL, store, NULL) == 0, "pthread_create");
	pthread_join(thread, NULL);
	tell("after the thread");

	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		*own = 'c';
		*common = 'c';
		tell("child has stored");
		_exit(0);
	}
	wait_for(child);
	tell("after the child");
	return 0;
}
