/* Starts a shell with a pipeline of three programs, as system(3) does. Each of the three is this program again, as some
 * shells have ls and the like within themselves: one says lines, one passes them on, one counts those that come. */
#include "lab.h"
#include <spawn.h>

extern char **environ;

static int say_lines(void)
{
	for (int line = 0; line < 10; line++)
		puts("a line");
	return 0;
}

static int pass_lines(void)
{
	for (int c = getchar(); c != EOF; c = getchar())
		putchar(c);
	return 0;
}

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
	const char *part = count == 2 ? arguments[1] : "";
	if (strcmp(part, "say") == 0)
		return say_lines();
	if (strcmp(part, "pass") == 0)
		return pass_lines();
	if (strcmp(part, "count") == 0)
		return count_lines();

	char self[512], command[1600];
	ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
	need(length > 0, "readlink");
	self[length] = '\0';
	snprintf(command, sizeof command, "'%s' say | '%s' pass | '%s' count", self, self, self);

	mark("before the shell", "command=%zu", strlen(command));
	/* posix_spawn looks as if it made a process straight from a file. */
	char *shell[] = {"sh", "-c", command, NULL};
	pid_t child;
	errno = posix_spawn(&child, "/bin/sh", NULL, NULL, shell, environ);
	need(errno == 0, "posix_spawn");
	mark("the shell has ended", "shell=%d status=%d", child, wait_for(child));
	return 0;
}
