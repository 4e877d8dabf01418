/* The example of the notes: where do its variables, its literals and its blocks of memory lie? */
#include "lab.h"

int a = 0;
char *p1;

int main()
{
	int b;
	char s[] = "abc";
	char *p2;
	char *p3 = "123456";
	static int c = 0;
	p1 = (char *)malloc(10);
	p2 = (char *)malloc(20);
	strcpy(p1, "123456");

	/* The compiler makes two moves of numbers of that strcpy; this one keeps its literal. */
	char *again = "123456";
	mark("end", "a=%p p1=%p b=%p s=%p p2=%p p3=%p literal=%p again=%p c=%p block1=%p block2=%p",
	     &a, &p1, &b, s, &p2, &p3, p3, again, &c, p1, p2);
	return 0;
}
