/* How a program of the lab tells memtrace what it is about to do.
 *
 * mark("before the write", "page=%p child=%d", page, child) says where the program is, and which
 * addresses and numbers matter there. It returns when memtrace has looked at the process in /proc.
 * Run by hand, without memtrace, a program just prints its marks.
 */
#ifndef LAB_H
#define LAB_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

/* Ends the program when something fails that it can't do without. */
static inline void need(int it_worked, const char *what)
{
	if (!it_worked) {
		fprintf(stderr, "%s: %s\n", what, strerror(errno));
		_exit(2);
	}
}

/* A line for memtrace: "NAME|TID|KEY=VALUE KEY=VALUE". Each mark has a connection of its own, so that
 * several processes and threads can make theirs at one time. */
__attribute__((format(printf, 2, 3)))
static inline void mark(const char *name, const char *format, ...)
{
	char line[1024];
	int used = snprintf(line, sizeof line, "%s|%d|", name, (int)syscall(SYS_gettid));
	va_list values;
	va_start(values, format);
	vsnprintf(line + used, sizeof line - (size_t)used, format, values);
	va_end(values);

	const char *path = getenv("MEMTRACE_LAB");
	if (path == NULL) {
		printf("%s\n", line);
		fflush(stdout);
		return;
	}
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	int lab = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	need(lab >= 0, "socket");
	need(connect(lab, (struct sockaddr *)&address, sizeof address) == 0, "connect to memtrace");
	need(write(lab, line, strlen(line)) == (ssize_t)strlen(line), "write to memtrace");
	shutdown(lab, SHUT_WR);
	char answer;
	need(read(lab, &answer, 1) == 1, "answer of memtrace");
	close(lab);
}

/* For a process that is to crash: nobody needs a picture of its memory. */
static inline void no_core(void)
{
	need(prctl(PR_SET_DUMPABLE, 0) == 0, "prctl");
}

/* Fresh memory of so many bytes, each page written to. */
static inline char *touched(size_t bytes)
{
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(memory != MAP_FAILED, "mmap");
	for (size_t at = 0; at < bytes; at += PAGE)
		memory[at] = 1;
	return memory;
}

/* Fresh memory of so many bytes that nobody has touched, in pages of 4 KiB: never a huge page. */
static inline char *untouched(size_t bytes)
{
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(memory != MAP_FAILED, "mmap");
	/* Fails on a kernel without huge pages, which is as well. */
	madvise(memory, bytes, MADV_NOHUGEPAGE);
	return memory;
}

/* A mark that names so many addresses, "page0" and on, each so many bytes after the one before. */
static inline void mark_pages(const char *name, const char *first, int count, size_t step)
{
	char line[1024] = "";
	size_t used = 0;
	for (int page = 0; page < count && used < sizeof line; page++)
		used += (size_t)snprintf(line + used, sizeof line - used, "page%d=%p ", page,
					 (const void *)(first + (size_t)page * step));
	mark(name, "%s", line);
}

/* Memory that begins where a huge page can, all of it in use: in pages of 4 KiB with MADV_NOHUGEPAGE, of
 * 2 MiB with MADV_HUGEPAGE where the machine has them. */
static inline char *populated(size_t bytes, int advice)
{
	const size_t huge = 2UL << 20;
	char *space = mmap(NULL, bytes + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(space != MAP_FAILED, "mmap");
	char *memory = (char *)(((uintptr_t)space + huge - 1) & -huge);
	/* A kernel without huge pages refuses the advice, and has small ones. */
	madvise(memory, bytes, advice);
	/* The first touch of each 2 MiB shows which pages the kernel gives. */
	for (size_t at = 0; at < bytes; at += huge)
		memory[at] = 1;
#ifdef MADV_POPULATE_WRITE
	/* The rest without a fault for each page. */
	if (madvise(memory, bytes, MADV_POPULATE_WRITE) == 0)
		return memory;
#endif
	for (size_t at = 0; at < bytes; at += PAGE)
		memory[at] = 1;
	return memory;
}

/* The number in a file of the kernel's, such as /proc/sys/vm/overcommit_memory. -1 where there is none. */
static inline long number_in(const char *path)
{
	long number = -1;
	FILE *file = fopen(path, "r");
	if (file != NULL) {
		if (fscanf(file, "%ld", &number) != 1)
			number = -1;
		fclose(file);
	}
	return number;
}

/* Waits for a child. Its status as waitpid gives it. */
static inline int wait_for(pid_t child)
{
	int status;
	need(waitpid(child, &status, 0) == child, "waitpid");
	return status;
}

#endif
