/* A child writes to a string literal. */
#include "lab.h"

int main(void)
{
	char on_stack[] = "an array";
	char *literal = "a literal";

	pid_t child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		no_core();
		on_stack[0] = 'A';
		mark("before the write", "stack=%p literal=%p first=%d", on_stack, literal, literal[0]);
		literal[0] = 'A';
		mark("after the write", "literal=%p first=%d", literal, literal[0]);
		_exit(0);
	}
	wait_for(child);
	mark("end", "child=%d literal=%p", child, literal);
	return 0;
}
