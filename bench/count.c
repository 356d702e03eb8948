/* A QEMU plugin that counts the instructions the guest executes, into a file of 8 bytes that the host reads at any
 * time (out=FILE). Debian ships no header for plugins, so what is used of their interface is declared here; it is the
 * part that all versions share, apart from the version number itself. One virtual processor only: no locks. */

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
typedef void tb_translated(uint64_t id, struct qemu_plugin_tb *tb);
typedef void tb_executed(unsigned int vcpu, void *userdata);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, tb_translated *callback);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, tb_executed *callback, int flags, void *userdata);

EXPORT int qemu_plugin_version = API_VERSION;

static volatile uint64_t *executed;

static void on_executed(unsigned int vcpu, void *instructions)
{
	(void)vcpu;
	*executed += (uintptr_t)instructions;
}

static void on_translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	(void)id;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, on_executed, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4) != 0)
		return -1;
	int file = open(argv[0] + 4, O_RDWR);
	void *map = mmap(NULL, sizeof *executed, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (map == MAP_FAILED)
		return -1;
	executed = map;
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
	return 0;
}
