/* The benchmark's container. `probe up` says that it runs, and waits; `probe exit` ends at once. Privileged and with the
 * host's process ids, `probe memory` also says after a while what the host's processes and the machine take, and
 * `probe kill` kills each `probe up`, says so, and does it again. */

#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long the node gets to finish what it does after a boot, in seconds. */
#define SETTLE 40

/* How often `kill` kills, and after how many seconds each: what ran for less is not started again at once. */
#define KILLS 5
#define STEADY 15

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

static void kill_others(void)
{
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	while (proc && (entry = readdir(proc))) {
		static const char UP[] = "/probe\0up";
		char path[300], command[sizeof UP] = "";
		if (!isdigit(entry->d_name[0]))
			continue;
		snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
		FILE *file = fopen(path, "r");
		size_t length = file ? fread(command, 1, sizeof command, file) : 0;
		if (file)
			fclose(file);
		if (length == sizeof UP && memcmp(command, UP, sizeof UP) == 0) {
			printf("BENCH kill\n");
			kill(atoi(entry->d_name), SIGKILL);
		}
	}
	if (proc)
		closedir(proc);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "up";
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("CONTAINER-UP\n");
	if (strcmp(mode, "exit") == 0)
		return 0;
	if (strcmp(mode, "memory") == 0) {
		sleep(SETTLE);
		say_memory();
	}
	if (strcmp(mode, "kill") == 0) {
		for (int round = 0; round < KILLS; round++) {
			sleep(STEADY);
			kill_others();
		}
		sleep(1);
		printf("BENCH end\n");
	}
	for (;;)
		pause();
}
