/* A process of some size makes a few children, and then as many threads. Each calls a function that
 * needs a little of its stack. What memory do they add? Done for three sizes. */
#include "lab.h"
#include <pthread.h>
#include <sys/prctl.h>

#define EACH 4

static pthread_barrier_t all_there, all_seen;

static void work(void)
{
	volatile char room[4 * PAGE];
	for (int at = 0; at < 4 * PAGE; at += PAGE)
		room[at] = 1;
	(void)room[0];
}

static void *thread(void *unused)
{
	work();
	pthread_barrier_wait(&all_there);
	pthread_barrier_wait(&all_seen);
	return unused;
}

/* They live until the parent closes the gate. */
static void children(void)
{
	int gate[2];
	need(pipe(gate) == 0, "pipe");
	for (int number = 0; number < EACH; number++) {
		pid_t child = fork();
		need(child >= 0, "fork");
		if (child == 0) {
			close(gate[1]);
			work();
			mark("child", " ");
			char end;
			_exit(read(gate[0], &end, 1) != 0);
		}
	}
	close(gate[1]);
	for (int number = 0; number < EACH; number++)
		need(wait(NULL) > 0, "wait");
	close(gate[0]);
}

static void threads(void)
{
	pthread_t all[EACH];
	pthread_barrier_init(&all_there, NULL, EACH + 1);
	pthread_barrier_init(&all_seen, NULL, EACH + 1);
	mark("before the threads", " ");
	for (int number = 0; number < EACH; number++)
		need(pthread_create(&all[number], NULL, thread, NULL) == 0, "pthread_create");
	pthread_barrier_wait(&all_there);
	mark("with the threads", " ");
	pthread_barrier_wait(&all_seen);
	for (int number = 0; number < EACH; number++)
		pthread_join(all[number], NULL);
}

int main(void)
{
	const size_t sizes[] = {1, 64, 512};
	/* Where a stack happens to lie right for a huge page, a thread would cost 2 MiB. */
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	for (int size = 0; size < 3; size++) {
		/* A process of its own for each size, so that none finds what another has left. */
		pid_t parent = fork();
		need(parent >= 0, "fork");
		if (parent == 0) {
			populated(sizes[size] << 20, MADV_NOHUGEPAGE);
			mark("parent", "mib=%zu", sizes[size]);
			children();
			threads();
			_exit(0);
		}
		need(wait_for(parent) == 0, "a parent");
	}
	return 0;
}
