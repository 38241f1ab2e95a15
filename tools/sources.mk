# Which sources make which program. A new .c file in a listed folder is picked up by itself.
BASE_SRC := $(wildcard platform/base/*.c)
HOST_SRC := $(wildcard platform/host/*.c)
PLATFORM_SRC := $(wildcard platform/stub/*.c platform/kvm/*.c platform/kvm/*.S platform/ptrace/*.c platform/ptrace/*.S \
	platform/systrap/*.c platform/systrap/*.S platform/null/*.c platform/choose/*.c)
URPC_SRC := $(wildcard urpc/*.c)
PROTOS := $(wildcard urpc/proto/*.proto)
GOFER_PROTO_SRC := $(wildcard gofer/proto/*.c)
GOFER_SRC := $(GOFER_PROTO_SRC) $(wildcard gofer/server/*.c gofer/backend/*.c gofer/seccomp/*.c)
RUNSC_SRC := $(wildcard runsc/*.c runsc/*/*.c)
SENTRY_SRC := $(wildcard sentry/*/*.c sentry/*/*.S sentry/fs/*/*.c sentry/net/*/*.c)
