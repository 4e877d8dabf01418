/* Asks for far more memory than the machine has, touches a little of what it gets, and forks. */
#include "lab.h"
#include <sys/resource.h>
#include <sys/sysinfo.h>

static char *ask(size_t bytes, int flags)
{
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

int main(void)
{
	struct sysinfo info;
	need(sysinfo(&info) == 0, "sysinfo");
	size_t all = (info.totalram + info.totalswap) * info.mem_unit & -(size_t)PAGE;
	size_t too_much = all + (1 << 30), most = all / 4 * 3 & -(size_t)PAGE;
	struct rlimit own;
	need(getrlimit(RLIMIT_AS, &own) == 0, "getrlimit");
	/* How generous the kernel is set to be: 0 as it thinks fit, 1 always, 2 never beyond its limit. */
	mark("before", "mode=%ld all=%zu too_much=%zu most=%zu limited=%d",
	     number_in("/proc/sys/vm/overcommit_memory"), all, too_much, most,
	     own.rlim_cur != RLIM_INFINITY);

	/* More than there is, at one time; then without a reservation. */
	ask(too_much, 0);
	char *unreserved = ask(too_much, MAP_NORESERVE);
	/* Three times three quarters of what there is. */
	char *parts[3];
	for (int i = 0; i < 3; i++) {
		parts[i] = ask(most, 0);
		/* Else the kernel joins the parts to one. */
		if (parts[i] != MAP_FAILED)
			mprotect(parts[i], PAGE, PROT_NONE);
	}
	/* A page of each is used. */
	if (unreserved != MAP_FAILED)
		unreserved[PAGE] = 1;
	for (int i = 0; i < 3; i++)
		if (parts[i] != MAP_FAILED)
			parts[i][PAGE] = 1;
	mark("asked", "all=%zu", all);

	pid_t child = fork();
	if (child == 0) {
		mark("child", "all=%zu", all);
		_exit(0);
	}
	if (child > 0)
		wait_for(child);
	return 0;
}
