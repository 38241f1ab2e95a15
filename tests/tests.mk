# Test programs and the targets around them. `make check` and `make run` install dependencies first
# (root); the parts below them (`make tests`, tests/run) work as they are.

T := $(OUT)/tests
TEST_CFLAGS := -std=gnu17 -D_GNU_SOURCE -I. -O1 -g -Wall -Wextra -Werror -pthread \
	-Wno-nonnull -Wno-unused-result -Wno-stringop-overflow -Wno-stringop-overread

# Unit tests and fuzzers: tests/unit/AREA_name.c links with everything that AREA may see. A unit test
# uses tests/lib/test.h; one that brings its own main prints the closing line itself.
lib_obj = $(filter-out %/main.o,$(call obj,$(1)))
AREA_base := $(call lib_obj,$(BASE_SRC))
AREA_host := $(AREA_base) $(call lib_obj,$(HOST_SRC))
AREA_urpc := $(AREA_host) $(call lib_obj,$(URPC_SRC)) $(PB_OBJ)
AREA_gofer := $(AREA_host) $(call lib_obj,$(GOFER_SRC))
AREA_platform := $(AREA_host) $(call lib_obj,$(PLATFORM_SRC))
AREA_runsc := $(AREA_urpc) $(call lib_obj,$(RUNSC_SRC))
AREA_sentry := $(AREA_urpc) $(call lib_obj,$(SENTRY_SRC) $(PLATFORM_SRC) $(GOFER_PROTO_SRC))
AREAS := base host urpc gofer platform runsc sentry
AREA_LIBS := -lseccomp -lprotobuf-c -luring -lcapstone -ljansson
area = $(firstword $(subst _, ,$(basename $(notdir $(1)))))

$(foreach a,$(AREAS),$(eval $(T)/lib/$(a).a: $(AREA_$(a))))
$(T)/lib/test.a: $(OUT)/obj/tests/lib/test.o
$(T)/lib/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)ar rcT $@ $^ 2>/dev/null || ar rc $@

UNIT_SRC := $(wildcard tests/unit/*.c)
# tests/fuzz/guest_*.c are guest programs: hostile ones.
HOSTILE_SRC := $(wildcard tests/fuzz/guest_*.c)
HOSTILE_BIN := $(HOSTILE_SRC:tests/fuzz/%.c=$(T)/hostile/%)
FUZZ_SRC := $(filter-out $(HOSTILE_SRC),$(wildcard tests/fuzz/*.c))
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(T)/unit/%)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%.c=$(T)/fuzz/%)
$(OUT)/obj/tests/%.o: WARN := $(filter-out -Wmissing-prototypes,$(WARN))

.SECONDEXPANSION:
$(UNIT_BIN): $(T)/unit/%: $(OUT)/obj/tests/unit/%.o $(T)/lib/test.a $(T)/lib/$$(call area,%).a
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -pie -o $@ $^ $(AREA_LIBS)
$(FUZZ_BIN): $(T)/fuzz/%: $(OUT)/obj/tests/fuzz/%.o $(OUT)/obj/tests/lib/fuzz.o $(T)/lib/$$(call area,%).a
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(if $(LIBFUZZER),-fsanitize=fuzzer) -pie -o $@ $(FUZZ_INPUTS) $(AREA_LIBS)
FUZZ_INPUTS = $(if $(LIBFUZZER),$(filter-out %/lib/fuzz.o,$^),$^)

# The same fuzzers under libFuzzer, with coverage: build-fuzz/NAME [corpus directory]
fuzz-bins:
	@$(MAKE) --no-print-directory CC=clang OUT=build-fuzz LIBFUZZER=1 \
		CFLAGS="-O1 -g -fsanitize=fuzzer-no-link,address,undefined" fuzz-link
fuzz-link: $(FUZZ_BIN)

# Guest programs: static, so that they run over any root.
GUEST_SRC := $(wildcard tests/guest/*.c)
GUEST_BIN := $(GUEST_SRC:tests/guest/%.c=$(T)/guest/%)
BENCH_BIN := $(patsubst tests/bench/%.c,$(T)/bench/%,$(wildcard tests/bench/*.c))
E2E_BIN := $(patsubst tests/e2e/%.c,$(T)/e2e/%,$(wildcard tests/e2e/*.c))
$(T)/obj/%.o: tests/%.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(TEST_CFLAGS) -MMD -MP -c -o $@ $<
$(GUEST_BIN): $(T)/guest/%: $(T)/obj/guest/%.o $(T)/obj/lib/test.o
	@mkdir -p $(@D)
	$(Q)$(CC) -static -pthread -o $@ $^
$(BENCH_BIN): $(T)/bench/%: $(T)/obj/bench/%.o
	@mkdir -p $(@D)
	$(Q)$(CC) -static -pthread -o $@ $^
$(E2E_BIN): $(T)/e2e/%: $(T)/obj/e2e/%.o
	@mkdir -p $(@D)
	$(Q)$(CC) -o $@ $^ $(if $(findstring systemd,$@),-lsystemd,-static)
$(HOSTILE_BIN): $(T)/hostile/%: $(T)/obj/fuzz/%.o
	@mkdir -p $(@D)
	$(Q)$(CC) -static -pthread -o $@ $^
$(T)/hostbox: $(T)/obj/lib/hostbox.o
	$(Q)$(CC) -static -o $@ $^
.SECONDARY:

UNIT_TESTS := $(UNIT_BIN) $(FUZZ_BIN)
TESTS := $(UNIT_TESTS) $(GUEST_BIN) $(HOSTILE_BIN) $(BENCH_BIN) $(E2E_BIN) $(T)/hostbox
unit-tests: $(UNIT_TESTS)
tests: all $(TESTS)

deps:
	@tools/install-deps

# Dependencies may come to be only now, so the rest is a make of its own.
run: deps
	@$(MAKE) --no-print-directory -s all
	@echo '$$ build/runsc do -- sh -c "uname -a; id; echo hello from the sandbox"'
	@$(OUT)/runsc do -- /bin/sh -c 'uname -a; id; echo hello from the sandbox'
	@echo '$$ build/runsc do -- python3 -c "print(sum(range(10**6)))"'
	@$(OUT)/runsc do -- python3 -c 'print(sum(range(10**6)))'

check: deps
	@$(MAKE) --no-print-directory check-built
ifeq ($(SAN),)
check-built: tests
	@tests/run --out $(OUT)
else
check-built: all unit-tests
	@tests/run --out $(OUT) --group unit --group fuzz
endif

# Container engines with this runtime, and with the runtimes in PEERS.
check-engines:
	@tools/install-deps --engines
	@$(MAKE) --no-print-directory -s all
	@tests/engines/run --out $(OUT) $(if $(PEERS),--peers "$(PEERS)") $(ENGINES:%=--engine %)

lint:
	@tests/run --out $(OUT) --group lint

bench: all $(BENCH_BIN)
	@tests/bench/bench --out $(OUT) $(PEERS:%=--peer %) $(PLATFORM:%=--platform %)

# The OCI validation suite: SUITE=DIR is a checkout of opencontainers/runtime-tools, PEERS="runc crun" run beside.
check-oci: all
	@tests/oci/run --out $(OUT) --suite "$(SUITE)" $(PEERS:%=--peer %)

.PHONY: check-engines fuzz-bins fuzz-link deps run tests unit-tests check check-built check-oci lint bench
-include $(shell find $(T)/obj -name '*.d' 2>/dev/null)
