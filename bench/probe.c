/* The benchmark's container. `probe up` says that it runs, and waits. `probe memory`, privileged and with the host's
 * process ids, also says after a while what the host's processes and the machine take. */

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long the node gets to finish what it does after a boot, in seconds. */
#define SETTLE 40

/* The number behind `key` in the file, -1 without it (kernel threads have no memory of their own). */
static long value(const char *path, const char *key)
{
	char line[256];
	long found = -1;
	FILE *file = fopen(path, "r");
	while (file && fgets(line, sizeof line, file))
		if (strncmp(line, key, strlen(key)) == 0)
			found = atol(line + strlen(key));
	if (file)
		fclose(file);
	return found;
}

static void say_memory(void)
{
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	while (proc && (entry = readdir(proc))) {
		char path[300], name[64] = "?";
		if (!isdigit(entry->d_name[0]) || atoi(entry->d_name) == getpid())
			continue;
		snprintf(path, sizeof path, "/proc/%s/smaps_rollup", entry->d_name);
		long pss = value(path, "Pss:");
		if (pss < 0)
			continue;
		snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
		FILE *comm = fopen(path, "r");
		if (comm) {
			if (fgets(name, sizeof name, comm))
				name[strcspn(name, "\n")] = 0;
			fclose(comm);
		}
		printf("BENCH pss %s %ld\n", name, pss);
	}
	FILE *drop = fopen("/proc/sys/vm/drop_caches", "w");
	if (drop) {
		fputs("3\n", drop);
		fclose(drop);
	}
	printf("BENCH used %ld\n", value("/proc/meminfo", "MemTotal:") - value("/proc/meminfo", "MemFree:"));
	printf("BENCH end\n");
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("CONTAINER-UP\n");
	if (argc > 1 && strcmp(argv[1], "memory") == 0) {
		sleep(SETTLE);
		say_memory();
	}
	for (;;)
		pause();
}
