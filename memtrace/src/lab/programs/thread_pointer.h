/* The processor's own register that points to the thread's data: the one thing here that C can't say. */
#ifndef THREAD_POINTER_H
#define THREAD_POINTER_H

static inline void *thread_pointer(void)
{
	void *pointer;
#if defined __x86_64__
	/* The register itself can't be read everywhere, but what it points to begins with its value. */
	__asm__("mov %%fs:0, %0" : "=r"(pointer));
#elif defined __aarch64__
	__asm__("mrs %0, tpidr_el0" : "=r"(pointer));
#else
#error "memtrace doesn't know this architecture"
#endif
	return pointer;
}

#endif
