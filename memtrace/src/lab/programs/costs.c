/* A process of some size makes a child and waits for its end, again and again; then the same with a
 * thread. Done for three sizes. Last, two processes and then two threads hand a byte to and fro on one
 * CPU, so that each time the one must be switched for the other. */
#include "lab.h"
#include <pthread.h>

#define ROUNDS 7
#define TURNS 200

static void *nothing(void *unused)
{
	return unused;
}

static void make(size_t mib)
{
	populated(mib << 20, MADV_NOHUGEPAGE);
	mark("processes", "mib=%zu", mib);
	for (int round = 0; round < ROUNDS; round++) {
		pid_t child = fork();
		need(child >= 0, "fork");
		if (child == 0)
			_exit(0);
		wait_for(child);
	}
	mark("threads", "mib=%zu", mib);
	for (int round = 0; round < ROUNDS; round++) {
		pthread_t thread;
		need(pthread_create(&thread, NULL, nothing, NULL) == 0, "pthread_create");
		pthread_join(thread, NULL);
	}
	mark("made", "mib=%zu", mib);
}

static int there[2], back[2];

static void *answer(void *unused)
{
	char byte;
	for (int turn = 0; turn < TURNS; turn++)
		need(read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1, "answer");
	return unused;
}

static void ask(void)
{
	char byte = 0;
	for (int turn = 0; turn < TURNS; turn++)
		need(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1, "ask");
}

static void switches(void)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	need(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
	need(pipe(there) == 0 && pipe(back) == 0, "pipe");

	mark("two processes", " ");
	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		answer(NULL);
		_exit(0);
	}
	ask();
	wait_for(child);

	mark("two threads", " ");
	pthread_t thread;
	need(pthread_create(&thread, NULL, answer, NULL) == 0, "pthread_create");
	ask();
	pthread_join(thread, NULL);
	mark("switched", " ");
}

int main(void)
{
	const size_t sizes[] = {1, 64, 512};
	for (int size = 0; size < 3; size++) {
		/* A process of its own for each size. */
		pid_t parent = fork();
		need(parent >= 0, "fork");
		if (parent == 0) {
			make(sizes[size]);
			_exit(0);
		}
		need(wait_for(parent) == 0, "a parent");
	}
	switches();
	return 0;
}
