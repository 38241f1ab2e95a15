/*
 * From a file to a runnable image: ELF64 and #! scripts (execve(2), elf(5), the System V ABI's
 * "process initialization").
 *
 * exec works in two halves. loader_prepare does all that may fail for the caller's reasons and changes
 * nothing; then the old address space goes, and loader_map fills the new one.
 */
#ifndef SENTRY_LOADER_LOADER_H
#define SENTRY_LOADER_LOADER_H

#include "sentry/kernel/limits.h"
#include "sentry/mm/mm.h"
#include "sentry/vfs/vfs.h"

/* argv and envv as exec got them: argc + envc strings, each with its NUL, one behind the other. */
struct loader_strings {
	char *text;	/* owned */
	size_t size, capacity;
	uint32_t argc, envc;
	size_t env_offset; /* where envv begins; == size without environment */
};

void loader_strings_fini(struct loader_strings *s);
/* Appends one string of argv, or of envv when env (all of argv first). -E2BIG beyond limit bytes (strings
 * and their pointers; one string is at most 128 KiB), -ENOMEM. */
NODISCARD int loader_strings_add(struct loader_strings *s, const char *str, size_t len, bool env, uint64_t limit);
/* Limit of the strings of a process with this RLIMIT_STACK: a quarter of it, at least 128 KiB, at most 6 MiB. */
uint64_t loader_strings_limit(uint64_t stack_limit);

#define ELF_SEGMENTS_MAX 64

/* The parts of an ELF file that loading needs, checked. */
struct elf_image {
	uint64_t entry, phdr_vaddr;
	uint16_t phdr_count;
	bool position_independent; /* ET_DYN */
	bool exec_stack;
	uint64_t low, high;	   /* page-aligned extent of the PT_LOADs */
	uint64_t align;		   /* greatest p_align of a PT_LOAD */
	uint64_t interp_offset, interp_size; /* PT_INTERP; size 0: none */
	unsigned segment_count;
	struct elf_segment {
		uint64_t vaddr, file_offset, file_size, mem_size;
		uint32_t prot; /* PROT_* */
	} segment[ELF_SEGMENTS_MAX];
};

/* Size of the buffer that elf_parse wants at most: the header and the program headers. */
#define ELF_HEAD_SIZE 4096u
/* Parses the first size bytes of a file (or all of it). -ENOEXEC for what is not an ELF64 program of this
 * architecture, -E2BIG when the program headers end beyond size, in *ret_need. Pure function. */
NODISCARD int elf_parse(const uint8_t *head, size_t size, struct elf_image *ret, size_t *ret_need);

struct loader_program {
	struct file *exe;    /* reference: the ELF program, after scripts */
	struct file *interp; /* reference; NULL: none */
	struct elf_image elf, interp_elf;
	char *execfn;	     /* owned: AT_EXECFN, the path as given */
	bool from_script;    /* set-user-id bits of the file do not count */
};

/*
 * Opens and checks what file starts. file is borrowed; w is for the interpreters' paths; pathname is as
 * given to exec. strings is rewritten for scripts. Errors of execve(2): -ENOEXEC, -EACCES, -ELIBBAD,
 * -ENOENT (interpreter), -ELOOP, -E2BIG, -ETXTBSY, -EIO.
 */
NODISCARD int loader_prepare(const struct walk *w, struct file *file, const char *pathname,
			     struct loader_strings *strings, uint64_t strings_limit,
			     struct loader_program *ret);
void loader_program_fini(struct loader_program *p);
/* May cred execute f? A regular file, search and execute permission, no MS_NOEXEC: 0, -EACCES. */
NODISCARD int loader_check_exec(struct file *f, const struct cred *cred);

struct loader_map_args {
	const struct loader_program *program;
	const struct loader_strings *strings;
	const struct cred *cred; /* the new ones */
	bool secure;		 /* AT_SECURE */
	bool randomize;		 /* personality without ADDR_NO_RANDOMIZE */
	uint64_t stack_limit;	 /* RLIMIT_STACK, soft */
	struct mm_limits limits;
};
struct loader_regs {
	uint64_t ip, sp;
};
/* Maps program, interpreter, vDSO, stack and heap into the empty mm and fills the stack. -ENOMEM, -EFAULT,
 * -EIO, ...: the process cannot go on, kill it. */
NODISCARD int loader_map(struct mm *mm, const struct loader_map_args *a, struct loader_regs *ret);

#endif
