/* Starts itself a second time while the first copy still runs. */
#include "lab.h"

int main(int count, char **arguments)
{
	if (count > 1) {
		mark("second", "text=%p", main);
		return 0;
	}
	mark("first", "text=%p", main);
	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		execl("/proc/self/exe", arguments[0], "second", NULL);
		need(0, "exec");
	}
	wait_for(child);
	mark("first still runs", "text=%p child=%d", main, child);
	return 0;
}
