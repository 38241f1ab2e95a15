/* ELF headers: what the loader takes, what it refuses. */
#include <elf.h>
#include <sys/mman.h>

#include "sentry/loader/loader.h"
#include "tests/lib/test.h"

static uint8_t image[4096];
static Elf64_Ehdr *const eh = (Elf64_Ehdr *)(void *)image;
static Elf64_Phdr *const ph = (Elf64_Phdr *)(void *)(image + sizeof(Elf64_Ehdr));

/* A minimal dynamic program with two segments. */
static void make(void)
{
	memset(image, 0, sizeof(image));
	memcpy(eh->e_ident, ELFMAG, SELFMAG);
	eh->e_ident[EI_CLASS] = ELFCLASS64;
	eh->e_ident[EI_DATA] = ELFDATA2LSB;
	eh->e_type = ET_DYN;
	eh->e_machine = EM_X86_64;
	eh->e_phoff = sizeof(*eh);
	eh->e_phentsize = sizeof(*ph);
	eh->e_phnum = 3;
	eh->e_entry = 0x1100;
	ph[0] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_flags = PF_R, .p_filesz = 0x400, .p_memsz = 0x400, .p_align = 4096 };
	ph[1] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_offset = 0x1000, .p_vaddr = 0x1000,
			      .p_filesz = 0x200, .p_memsz = 0x3000, .p_align = 0x200000 };
	ph[2] = (Elf64_Phdr){ .p_type = PT_INTERP, .p_offset = 0x300, .p_filesz = 28 };
}

static int parse(struct elf_image *e)
{
	size_t need = 0;

	return elf_parse(image, sizeof(image), e, &need);
}

TEST(dynamic_program)
{
	struct elf_image e;

	make();
	CHECK_EQ(parse(&e), 0);
	CHECK(e.position_independent && e.segment_count == 2);
	CHECK_EQ(e.low, 0);
	CHECK_EQ(e.high, 0x4000);
	CHECK_EQ(e.align, 0x200000);
	CHECK_EQ(e.interp_size, 28);
	CHECK_EQ(e.phdr_vaddr, sizeof(*eh));
	CHECK_EQ(e.segment[1].prot, PROT_READ | PROT_EXEC);
}

#define REFUSED(change)                                                                            \
	do {                                                                                       \
		struct elf_image e_;                                                               \
		make();                                                                            \
		change;                                                                            \
		CHECK(parse(&e_) < 0);                                                             \
	} while (0)

TEST(refused)
{
	REFUSED(eh->e_ident[0] = 0);
	REFUSED(eh->e_ident[EI_CLASS] = ELFCLASS32);
	REFUSED(eh->e_machine = EM_AARCH64);
	REFUSED(eh->e_type = ET_REL);
	REFUSED(eh->e_phnum = 0);
	REFUSED(eh->e_phentsize = 32);
	REFUSED(eh->e_phoff = UINT64_MAX - 8);
	REFUSED(ph[1].p_filesz = 0x4000);
	REFUSED(ph[1].p_vaddr = UINT64_MAX - 0xfff);
	REFUSED(ph[1].p_memsz = UINT64_MAX);
	REFUSED(ph[1].p_offset = 0x1001);
	REFUSED(ph[1].p_vaddr = 1ull << 47);
	REFUSED(ph[0].p_vaddr = 0x10000);
	REFUSED(ph[2].p_filesz = 5000);
	REFUSED((ph[0].p_type = PT_NULL, ph[1].p_type = PT_NULL));
}

TEST(truncated)
{
	struct elf_image e;
	size_t need = 0;

	make();
	CHECK_EQ(elf_parse(image, 10, &e, &need), -ENOEXEC);
	CHECK_EQ(elf_parse(image, sizeof(*eh) + 10, &e, &need), -E2BIG);
	CHECK_EQ(need, sizeof(*eh) + 3 * sizeof(*ph));
}
