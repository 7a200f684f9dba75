// SPDX-License-Identifier: Apache-2.0
/* Asked apart from the relay's probe, and in another way. */
#include "kernel.h"

#include <bpf/libbpf.h>
#include <cap-ng.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#define OLDEST_MAJOR 6
#define OLDEST_MINOR 1

static bool is_new_enough(const char *release)
{
	int major = 0, minor = 0;

	return sscanf(release, "%d.%d", &major, &minor) == 2 &&
	       (major > OLDEST_MAJOR || (major == OLDEST_MAJOR && minor >= OLDEST_MINOR));
}

bool kernel_owes_sockmap(char *lack, size_t size)
{
	static const struct { int capability; const char *name; } needed[] = {
		{ CAP_BPF, "CAP_BPF" }, { CAP_NET_ADMIN, "CAP_NET_ADMIN" }, { CAP_PERFMON, "CAP_PERFMON" },
	};
	struct utsname name = { 0 };

	uname(&name);
	if (!is_new_enough(name.release)) {
		snprintf(lack, size, "kernel %.40s is older than %d.%d", name.release, OLDEST_MAJOR, OLDEST_MINOR);
		return false;
	}
	capng_get_caps_process();
	for (size_t at = 0; at < sizeof needed / sizeof *needed; at++) {
		if (!capng_have_capability(CAPNG_EFFECTIVE, (unsigned)needed[at].capability)) {
			snprintf(lack, size, "this user does not have %s", needed[at].name);
			return false;
		}
	}
	if (access("/sys/kernel/btf/vmlinux", R_OK)) {
		snprintf(lack, size, "the kernel does not describe its types (no /sys/kernel/btf/vmlinux)");
		return false;
	}
	if (libbpf_probe_bpf_map_type(BPF_MAP_TYPE_SOCKMAP, NULL) != 1 ||
	    libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_SK_SKB, NULL) != 1) {
		snprintf(lack, size, "the kernel refuses socket maps or their programs");
		return false;
	}
	return true;
}
