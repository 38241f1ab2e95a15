# One non-recursive makefile. `make` builds as an ordinary user and downloads nothing.
#   make            build/runsc build/runsc-sentry build/runsc-gofer
#   make check      everything that CI runs        (sudo; installs dependencies first)
#   make run        a first program in a sandbox   (sudo; installs dependencies first)
#   make install    PREFIX/bin/runsc and its two helpers in PREFIX/libexec/runsc (PREFIX=/usr/local, DESTDIR=); make uninstall
# Variables: CC, SAN=asan,ubsan | tsan, DEBUG=1 (lock ranks and audits), V=1 (full command lines)

CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
comma := ,
OUT := build$(if $(SAN),-$(subst $(comma),-,$(SAN)))$(if $(DEBUG),-debug)
Q := $(if $(V),,@)

CFLAGS ?= -O2 -g
WARN := -Wall -Wextra -Wshadow -Wvla -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes \
	-Wcast-qual -Wpointer-arith -Wimplicit-fallthrough -Wundef -Werror \
	$(if $(findstring clang,$(CC)),-Wno-gnu-variable-sized-type-not-at-end)
HARDEN := -fstack-protector-strong -fstack-clash-protection -fcf-protection -fno-strict-aliasing \
	$(if $(findstring -O0,$(CFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3) \
	$(if $(findstring clang,$(CC)),,-ftrivial-auto-var-init=zero)
CPP := -D_GNU_SOURCE -I. -I$(OUT)/gen $(if $(DEBUG)$(SAN),-DDEBUG_LOCKS)
SAN_FLAGS := $(if $(SAN),-fno-omit-frame-pointer) \
	$(if $(findstring asan,$(SAN)),-fsanitize=address) \
	$(if $(findstring ubsan,$(SAN)),-fsanitize=undefined -fno-sanitize-recover=undefined) \
	$(if $(findstring tsan,$(SAN)),-fsanitize=thread)
ALL_CFLAGS = -std=gnu17 $(CPP) $(WARN) $(HARDEN) $(SAN_FLAGS) -fPIE -pthread $(CFLAGS)
# The sentry and the gofer are static-pie (start-up time, ring-0 KVM); sanitizers need libc shared.
STATIC := $(if $(SAN),-pie,-static-pie)
LDHARD := -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--build-id=sha1

include tools/sources.mk

BINS := $(if $(RUNSC_SRC),$(OUT)/runsc) $(if $(wildcard sentry/boot/main.c),$(OUT)/runsc-sentry) $(if $(wildcard gofer/server/main.c),$(OUT)/runsc-gofer)
# Everything is compiled, linked or not.
all: $(BINS) objects

PROTO_C := $(PROTOS:%.proto=$(OUT)/gen/%.pb-c.c)
PROTO_H := $(PROTO_C:.c=.h)
obj = $(patsubst %.c,$(OUT)/obj/%.o,$(patsubst %.S,$(OUT)/obj/%.S.o,$(1)))

$(OUT)/gen/%.pb-c.c $(OUT)/gen/%.pb-c.h &: %.proto
	@mkdir -p $(OUT)/gen
	$(Q)protoc-c --c_out=$(OUT)/gen $<
$(OUT)/obj/%.pb-c.o: $(OUT)/gen/%.pb-c.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -Wno-all -Wno-extra -Wno-cast-qual -Wno-undef -c -o $@ $<
$(OUT)/obj/%.o: %.c | $(PROTO_H)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$(OUT)/obj/%.S.o: %.S
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# The guest's vDSO: a small shared object, embedded in the sentry.
VDSO := $(OUT)/vdso.so
$(VDSO): sentry/time/vdso/vdso.c sentry/time/vdso/vdso.lds sentry/time/vdso_data.h
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE -I. $(WARN) -Wno-missing-prototypes -O2 -fPIC -fno-stack-protector \
		-fcf-protection=branch -fno-asynchronous-unwind-tables -fvisibility=default -shared -nostdlib \
		-Wl,-soname=linux-vdso.so.1,--hash-style=both,-Bsymbolic,--build-id=sha1,-T,sentry/time/vdso/vdso.lds -o $@ $<
$(OUT)/obj/sentry/time/vdso_image.S.o: ALL_CFLAGS += -DVDSO_IMAGE='"$(VDSO)"'
$(OUT)/obj/sentry/time/vdso_image.S.o: $(VDSO)

PB_OBJ := $(PROTO_C:$(OUT)/gen/%.c=$(OUT)/obj/%.o)
$(OUT)/runsc: $(call obj,$(RUNSC_SRC) $(URPC_SRC) $(HOST_SRC) $(BASE_SRC)) $(PB_OBJ)
	$(Q)$(CC) $(ALL_CFLAGS) -pie $(LDHARD) -o $@ $^ -ljansson -lseccomp -lprotobuf-c
$(OUT)/runsc-sentry: $(call obj,$(SENTRY_SRC) $(PLATFORM_SRC) $(URPC_SRC) $(HOST_SRC) $(BASE_SRC) $(GOFER_PROTO_SRC)) $(PB_OBJ)
	$(Q)$(CC) $(ALL_CFLAGS) $(STATIC) $(LDHARD) -o $@ $^ -lseccomp -lprotobuf-c -luring -lcapstone
$(OUT)/runsc-gofer: $(call obj,$(GOFER_SRC) $(HOST_SRC) $(BASE_SRC))
	$(Q)$(CC) $(ALL_CFLAGS) $(STATIC) $(LDHARD) -o $@ $^ -lseccomp

# The FPU is left to the guest: in ring 0 of the kvm platform the first use of it costs an exception and a save.
$(call obj,$(SENTRY_SRC) $(PLATFORM_SRC) $(HOST_SRC) $(BASE_SRC)): \
	ALL_CFLAGS += $(if $(SAN),,-mgeneral-regs-only)

objects: $(call obj,$(SENTRY_SRC) $(PLATFORM_SRC) $(GOFER_SRC) $(RUNSC_SRC))

PREFIX ?= /usr/local
INSTALLED := $(DESTDIR)$(PREFIX)/bin/runsc $(DESTDIR)$(PREFIX)/libexec/runsc
# The helpers first: runsc refuses those of another build.
install: all
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/libexec/runsc $(OUT)/runsc-sentry $(OUT)/runsc-gofer
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(OUT)/runsc
uninstall:
	rm -rf $(INSTALLED)
.PHONY: install uninstall

include tests/tests.mk

clean:
	rm -rf build build-*
.PHONY: all objects clean
-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
