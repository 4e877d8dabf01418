/* Starts a program by fork and exec, then by posix_spawn, as a process of 1, 64 and 512 MiB. */
#include "lab.h"
#include <spawn.h>

#define ROUNDS 5

extern char **environ;
/* The program that is started is this one: with an argument it ends at once. */
static char *command[] = {"/proc/self/exe", "end", NULL};

static pid_t by_fork(void)
{
	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		execv(command[0], command);
		_exit(127);
	}
	return child;
}

static pid_t by_spawn(void)
{
	pid_t child;
	need(posix_spawn(&child, command[0], NULL, NULL, command, environ) == 0, "posix_spawn");
	return child;
}

int main(int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
		return 0;
	static const size_t sizes[] = {1, 64, 512};
	for (int i = 0; i < 3; i++) {
		char *memory = populated(sizes[i] << 20, MADV_NOHUGEPAGE);
		mark("fork and exec", "mib=%zu", sizes[i]);
		for (int round = 0; round < ROUNDS; round++)
			wait_for(by_fork());
		mark("posix_spawn", "mib=%zu", sizes[i]);
		for (int round = 0; round < ROUNDS; round++)
			wait_for(by_spawn());
		munmap(memory, sizes[i] << 20);
	}
	mark("done", "rounds=%d", ROUNDS);
	return 0;
}
