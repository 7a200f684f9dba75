# SPDX-License-Identifier: Apache-2.0
# One Makefile for everything; `make help` lists the targets, V=1 shows commands.
# SANITIZE=1 builds with ASan and UBSan into a folder of its own.
CC ?= gcc
CLANG ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/bin/bpftool) bpftool)
PYTHON ?= /usr/bin/python3
DESTDIR ?=
PREFIX ?= /usr/local
SANITIZE ?=
BUILD ?= build$(if $(SANITIZE),/asan)
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $(2);)

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2
OPTIMIZE ?= -O2 -g
ALL_CFLAGS := -std=gnu17 $(OPTIMIZE) $(WARNINGS) $(if $(WERROR),-Werror) -D_GNU_SOURCE -pthread -fno-strict-aliasing \
	$(if $(SANITIZE),-fsanitize=address -fsanitize=undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined) $(CFLAGS)
ALL_CPPFLAGS := -Iuserspace -Ibpf -I$(BUILD)/gen $(CPPFLAGS)
ALL_LDFLAGS := -pthread -Wl,--as-needed $(if $(SANITIZE),-fsanitize=address -fsanitize=undefined) $(LDFLAGS)
LIBS := -levent_core -levent_extra -levent_openssl -levent_pthreads -lnghttp2 -lssl -lcrypto -ljansson -lyaml \
	-lprotobuf-c -lbpf -lelf -lcap-ng -lz -lm

PROGRAMS := hyper proxy sd p2pctl
MAINS := $(wildcard userspace/hyper/main.c userspace/proxy/main.c userspace/sd/main.c tools/p2pctl/main.c)
SOURCES := $(filter-out $(MAINS),$(sort $(wildcard userspace/*/*.c)))
PROTOS := $(wildcard proto/*.proto)
PROTO_C := $(patsubst proto/%.proto,$(BUILD)/gen/%.pb-c.c,$(PROTOS)) $(if $(PROTOS),$(BUILD)/gen/google/protobuf/struct.pb-c.c)
SKELETONS := $(patsubst bpf/%.bpf.c,$(BUILD)/gen/%.skel.h,$(wildcard bpf/*.bpf.c)) \
	$(if $(wildcard bpf/gate.bpf.c),$(BUILD)/gen/gate_faults.skel.h)
OBJECTS := $(SOURCES:%.c=$(BUILD)/obj/%.o) $(PROTO_C:$(BUILD)/gen/%.c=$(BUILD)/obj/gen/%.o)
LIBRARY := $(BUILD)/libp2p.a
BINARIES := $(addprefix $(BUILD)/bin/,$(foreach p,$(PROGRAMS),$(if $(wildcard userspace/$(p)/main.c tools/$(p)/main.c),$(p))))

UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(sort $(wildcard tests/unit/test_*.c)))
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
# Programs of several files: each folder of tests/integration/bin and tests/bench/bin is one.
TOOL_DIRS := $(wildcard tests/integration/bin/* tests/bench/bin/* tests/vm/bin/*)
TEST_TOOLS := $(foreach d,$(TOOL_DIRS),$(BUILD)/tests/bin/$(notdir $(d)))
# Sources of other folders that they use too.
guest_bench_SHARED := tests/integration/bin/relay_contract/host.c
relay_bench_SHARED := $(guest_bench_SHARED)
map_watch_SHARED := $(guest_bench_SHARED) tests/vm/bin/guest_bench/end.c
path_bench_SHARED := $(map_watch_SHARED)

.PHONY: all deps demo test test-full certs sd-setup env install clean help fuzz tests bench bench-quick vm-test vm-matrix vm-bench
.DEFAULT_GOAL := all
.SECONDARY:
.DELETE_ON_ERROR:

all: $(BINARIES) ## build hyper, proxy, sd and p2pctl into build/bin
tests: all $(UNIT_TESTS) $(TEST_TOOLS) ## build the test programs too

deps: ## install what building and the demo need (Debian, as root)
	@tools/deps.sh build
demo: ## two servers that only the relay connects: build, run, show, stop (KEEP=1: leave it running)
	@tools/deps.sh build
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@KEEP="$(KEEP)" tools/demo.sh
test: ## build and run all tests (installs what is missing)
	@tools/deps.sh build test bench vm
	@tests/run.sh
test-full: ## every test at full size (90 minutes; RESUME=1 goes on where it was ended, PARTS="unit mixes/UU" runs these)
	@tools/deps.sh build test bench vm
	@tests/run.sh --full $(if $(RESUME),--resume) $(PARTS)
bench-quick: ## print the figures of docs/benchmarks.md
	@tools/deps.sh build test bench
	@$(MAKE) --no-print-directory -j$$(nproc) tests
	@tests/bench/quick.sh
bench: ## measure the relay beside its peers (25 minutes); writes docs/bench
	@tools/deps.sh build test bench
	@$(MAKE) --no-print-directory -j$$(nproc) tests
	@tests/bench/run.sh
vm-test: ## probe, contract, ping and kTLS inside Debian's 6.1 and 6.12 kernels (emulated)
	@tools/deps.sh build test vm
	@$(MAKE) --no-print-directory -j$$(nproc) tests
	@$(PYTHON) tests/vm/run.py
vm-matrix: ## the same on six kernels; writes the table of docs/kernels.md
	@tools/deps.sh build test vm
	@$(MAKE) --no-print-directory -j$$(nproc) tests
	@$(PYTHON) tests/vm/run.py --matrix --table docs/kernels.md
vm-bench: ## what relaying costs in instructions, and over slow paths, in guests; writes docs/bench/guest.md
	@tools/deps.sh build test bench vm
	@$(MAKE) --no-print-directory -j$$(nproc) tests
	@$(PYTHON) tests/vm/bench.py --table docs/bench/guest.md
certs: ## make the development certificates (FORCE=1: renew them and empty the dev datastores)
	@FORCE="$(FORCE)" tools/certs.sh settings/dev
sd-setup: ## load the development directory into a running sd
	@PATH="$(CURDIR)/$(BUILD)/bin:$$PATH" SD="$(SD)" tools/sd-setup.sh settings/dev
env: ## print shell code that puts the programs on PATH
	@tools/env.sh
install: all ## install into DESTDIR/PREFIX (default /usr/local)
	$(Q)install -d $(DESTDIR)$(PREFIX)/bin
	$(Q)install -m 755 $(BINARIES) $(DESTDIR)$(PREFIX)/bin
clean: ## remove everything that was built
	$(Q)rm -rf build
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n",$$1,$$2}' Makefile

# ---- kernel programs ----
$(BUILD)/gen/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) vmlinux.h
	@mkdir -p $(@D)
	$(call say,BPF,$<)$(CLANG) -O2 -g -Wall -target bpf -mcpu=v3 -I. -Ibpf -c $< -o $@
# The same program with faults that tests switch on (lost announcements, lost packets, no trim).
$(BUILD)/gen/%_faults.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) vmlinux.h
	@mkdir -p $(@D)
	$(call say,BPF,$< \(faults\))$(CLANG) -O2 -g -Wall -target bpf -mcpu=v3 -DGATE_FAULTS -I. -Ibpf -c $< -o $@
$(BUILD)/gen/%.skel.h: $(BUILD)/gen/%.bpf.o
	$(call say,SKEL,$@)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

# ---- protobuf ----
$(BUILD)/gen/%.pb-c.c: proto/%.proto
	@mkdir -p $(@D)
	$(call say,PROTOC,$<)protoc-c --proto_path=proto --proto_path=/usr/include --c_out=$(BUILD)/gen $<
$(BUILD)/gen/google/protobuf/struct.pb-c.c:
	@mkdir -p $(@D)
	$(call say,PROTOC,google/protobuf/struct.proto)protoc-c --proto_path=/usr/include --c_out=$(BUILD)/gen google/protobuf/struct.proto

# ---- objects ----
GENERATED := $(SKELETONS) $(PROTO_C)
$(BUILD)/obj/gen/%.o: $(BUILD)/gen/%.c | $(PROTO_C)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -Wno-missing-prototypes -c $< -o $@
$(BUILD)/obj/%.o: %.c | $(GENERATED)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@
$(LIBRARY): $(OBJECTS)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $(OBJECTS)

# ---- programs ----
$(BUILD)/bin/p2pctl: $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard tools/p2pctl/*.c)) $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) $(ALL_CFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/bin/%: $(BUILD)/obj/userspace/%/main.o $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) $(ALL_CFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) $(ALL_CFLAGS) -o $@ $^ $(LIBS) -lcmocka
define test_tool
$(BUILD)/tests/bin/$(notdir $(1)): $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard $(1)/*.c) $($(notdir $(1))_SHARED)) $(LIBRARY)
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)$$(CC) $$(ALL_LDFLAGS) $$(ALL_CFLAGS) -o $$@ $$^ $$(LIBS)
endef
$(foreach d,$(TOOL_DIRS),$(eval $(call test_tool,$(d))))

# ---- fuzz targets: clang's libFuzzer, objects of their own ----
FUZZ_SECONDS ?= 10
fuzz: ## run every fuzz target for FUZZ_SECONDS (default 10) each
	@$(MAKE) --no-print-directory BUILD=build/fuzz CC=$(CLANG) CFLAGS="-fsanitize=fuzzer-no-link,address,undefined" \
		LDFLAGS="-fsanitize=fuzzer,address,undefined" OPTIMIZE="-O1 -g" $(addprefix build/fuzz/bin/,$(FUZZERS))
	@tests/fuzz/run.sh $(FUZZ_SECONDS) $(addprefix build/fuzz/bin/,$(FUZZERS))
$(BUILD)/bin/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
