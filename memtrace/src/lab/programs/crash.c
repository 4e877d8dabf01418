/* A child process crashes. Then one of the four threads of another child does. */
#include "lab.h"
#include <pthread.h>
#include <sys/resource.h>

/* Stores to address 0, where nothing is mapped. */
static void *crash(void *nowhere)
{
	mark("about to crash", "at=%p", nowhere);
	*(volatile char *)nowhere = 1;
	return NULL;
}

static void *sleep_on(void *unused)
{
	for (;;)
		pause();
	return unused;
}

int main(void)
{
	/* No core dumps. */
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});

	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0)
		crash(NULL);
	int status = wait_for(child);
	mark("after the process's crash", "child=%d signal=%d", child, WTERMSIG(status));

	pid_t group = fork();
	need(group >= 0, "fork");
	if (group == 0) {
		pthread_t threads[3];
		for (int number = 0; number < 3; number++)
			need(pthread_create(&threads[number], NULL, number < 2 ? sleep_on : crash, NULL) == 0,
			     "pthread_create");
		sleep_on(NULL);
	}
	status = wait_for(group);
	mark("after the thread's crash", "child=%d signal=%d", group, WTERMSIG(status));
	return 0;
}
