/* Starts a shell with a pipeline of three programs, as system(3) does. The last of the three is this program again:
 * it counts the lines that come. */
#include "lab.h"
#include <spawn.h>

extern char **environ;

static int count_lines(void)
{
	int lines = 0;
	for (int c = getchar(); c != EOF; c = getchar())
		lines += c == '\n';
	mark("end of the pipeline", "lines=%d parent=%d", lines, getppid());
	return 0;
}

int main(int count, char **arguments)
{
	if (count == 2 && strcmp(arguments[1], "count") == 0)
		return count_lines();

	char self[512], command[600];
	ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
	need(length > 0, "readlink");
	self[length] = '\0';
	snprintf(command, sizeof command, "ls / | sort | '%s' count", self);

	mark("before the shell", "command=%zu", strlen(command));
	/* posix_spawn looks as if it made a process straight from a file. */
	char *shell[] = {"sh", "-c", command, NULL};
	pid_t child;
	errno = posix_spawn(&child, "/bin/sh", NULL, NULL, shell, environ);
	need(errno == 0, "posix_spawn");
	mark("the shell has ended", "shell=%d status=%d", child, wait_for(child));
	return 0;
}
