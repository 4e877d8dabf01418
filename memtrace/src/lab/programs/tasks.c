/* A process makes another by fork, then two threads. Each of the threads uses its own stack and thread-local variable, and
 * is scheduled in its own way. */
#include "lab.h"
#include "thread_pointer.h"
#include <pthread.h>

/* Each thread has one of these; all threads have the other. */
static __thread long own = 1;
static long common = 1;

static pthread_barrier_t both_are_there, both_are_seen;

/* How a thread is to be scheduled. */
struct way {
	const char *name;
	int policy, nice;
};

static void *thread(void *argument)
{
	const struct way *way = argument;
	pid_t tid = (pid_t)syscall(SYS_gettid);
	char page[PAGE];
	memset(page, 1, sizeof page);
	own = tid;
	need(sched_setscheduler(0, way->policy, &(struct sched_param){0}) == 0, "sched_setscheduler");
	/* On Linux it is this thread's alone. */
	nice(way->nice);
	pthread_barrier_wait(&both_are_there);
	/* Whoever looks now sees both. */
	mark(way->name, "stack=%p own=%p common=%p pointer=%p kcmp=%d", page, &own, &common, thread_pointer(),
	     getpid());
	pthread_barrier_wait(&both_are_seen);
	return NULL;
}

int main(void)
{
	mark("alone", "own=%p common=%p pointer=%p", &own, &common, thread_pointer());
	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		mark("process", "own=%p common=%p kcmp=%d", &own, &common, getppid());
		_exit(0);
	}
	need(wait_for(child) == 0, "the child");

	struct way ways[] = {{"first thread", SCHED_OTHER, 5}, {"second thread", SCHED_BATCH, 10}};
	pthread_t threads[2];
	pthread_barrier_init(&both_are_there, NULL, 2);
	pthread_barrier_init(&both_are_seen, NULL, 2);
	for (int i = 0; i < 2; i++)
		need(pthread_create(&threads[i], NULL, thread, &ways[i]) == 0, "pthread_create");
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	mark("end", "own=%p common=%p", &own, &common);
	return 0;
}
