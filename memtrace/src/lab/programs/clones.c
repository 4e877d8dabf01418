/* One clone(2) without any flag that shares something, then one with each of these flags. */
#include "lab.h"
#include <sys/sem.h>

static const unsigned cases[] = {
	0,
	CLONE_VM,
	CLONE_FS,
	CLONE_FILES,
	CLONE_SIGHAND | CLONE_VM, /* the kernel wants them together */
	CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, /* and these */
	CLONE_IO,
	CLONE_SYSVSEM,
};

static int go[2];
static char stack[16 * PAGE] __attribute__((aligned(16)));

/* The child waits until the parent has been looked at. Bare system calls: it may share the parent's libc data. */
static int child(void *unused)
{
	(void)unused;
	char byte;
	syscall(SYS_read, go[0], &byte, 1);
	syscall(SYS_exit, 0);
	return 0;
}

/* The kernel makes these two only when they are first used. */
static void have_io_context_and_undo_list(void)
{
	const int best_effort = 2 << 13, this_process = 1;
	syscall(SYS_ioprio_set, this_process, 0, best_effort | 4);

	int semaphore = semget(IPC_PRIVATE, 1, 0600);
	struct sembuf up = {.sem_op = 1, .sem_flg = SEM_UNDO};
	semop(semaphore, &up, 1);
	semctl(semaphore, 0, IPC_RMID);
}

int main(void)
{
	need(pipe(go) == 0, "pipe");
	have_io_context_and_undo_list();
	for (size_t number = 0; number < sizeof cases / sizeof cases[0]; number++) {
		unsigned flags = cases[number];
		/* How the parent hears of a child's end; of a thread's it doesn't. */
		unsigned end = flags & CLONE_THREAD ? 0 : SIGCHLD;
		int tid = clone(child, stack + sizeof stack, (int)(flags | end), NULL);
		need(tid > 0, "clone");
		mark("cloned", "flags=%#x kcmp=%d", flags, tid);
		need(write(go[1], "", 1) == 1, "write");
		/* A thread can't be waited for: it is looked for until it is gone. */
		if (flags & CLONE_THREAD)
			while (syscall(SYS_tgkill, getpid(), tid, 0) == 0)
				usleep(1000);
		else
			wait_for(tid);
	}
	return 0;
}
