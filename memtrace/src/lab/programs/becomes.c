/* Forks twice. The first child becomes another program, the second starts this same program anew. */
#include "lab.h"

int main(int count, char **arguments)
{
	if (count == 2 && strcmp(arguments[1], "again") == 0) {
		mark("the same program anew", "code=%p", main);
		return 0;
	}
	mark("before the forks", "code=%p", main);

	pid_t other = fork();
	need(other >= 0, "fork");
	if (other == 0) {
		mark("about to become another program", "code=%p", main);
		execlp("true", "true", NULL);
		need(0, "exec");
	}
	need(wait_for(other) == 0, "true");

	pid_t same = fork();
	need(same >= 0, "fork");
	if (same == 0) {
		execl("/proc/self/exe", arguments[0], "again", NULL);
		need(0, "exec");
	}
	need(wait_for(same) == 0, "this program again");
	mark("end", "other=%d same=%d", other, same);
	return 0;
}
