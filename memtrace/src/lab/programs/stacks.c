/* Eight threads, one of which uses more of its stack than the others; then a thread that uses up all of it. */
#include "lab.h"
#include <pthread.h>

#define THREADS 8

static pthread_barrier_t all_are_there, all_are_seen;

/* Uses a page of stack for each level. */
static int deeper(int levels)
{
	volatile char page[PAGE];
	page[0] = 1;
	return levels > 1 ? deeper(levels - 1) + page[0] : page[0];
}

static void *thread(void *levels)
{
	int here = deeper(*(int *)levels);
	mark("thread", "here=%p levels=%d", &here, *(int *)levels);
	pthread_barrier_wait(&all_are_there);
	pthread_barrier_wait(&all_are_seen);
	return NULL;
}

static void *runaway(void *levels)
{
	int here = 0;
	mark("runaway", "here=%p levels=%d", &here, *(int *)levels);
	here = deeper(*(int *)levels);
	return NULL;
}

int main(void)
{
	int few = 1, many = 100, endless = 1 << 20;
	pthread_t threads[THREADS];
	pthread_barrier_init(&all_are_there, NULL, THREADS + 1);
	pthread_barrier_init(&all_are_seen, NULL, THREADS + 1);
	mark("alone", "threads=%d", THREADS);
	for (int i = 0; i < THREADS; i++)
		need(pthread_create(&threads[i], NULL, thread, i == 0 ? &many : &few) == 0, "pthread_create");
	pthread_barrier_wait(&all_are_there);
	mark("together", "threads=%d", THREADS);
	pthread_barrier_wait(&all_are_seen);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);

	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		pthread_attr_t small;
		pthread_attr_init(&small);
		need(pthread_attr_setstacksize(&small, 1 << 20) == 0, "pthread_attr_setstacksize");
		need(pthread_create(&threads[0], &small, runaway, &endless) == 0, "pthread_create");
		pthread_join(threads[0], NULL);
		_exit(0);
	}
	wait_for(child);
	return 0;
}
