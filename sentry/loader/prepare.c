/* What a file starts: reading heads, following #! lines and PT_INTERP, keeping argv and envv. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/loader/loader.h"

#define STRING_MAX (32u * 4096) /* MAX_ARG_STRLEN */
#define SCRIPT_HEAD 256u	/* BINPRM_BUF_SIZE */
#define SCRIPT_DEPTH 5
#define STRINGS_MIN (32u * 4096)
#define STRINGS_MAX (6ull << 20)

void loader_strings_fini(struct loader_strings *s)
{
	free(s->text);
	*s = (struct loader_strings){ 0 };
}

uint64_t loader_strings_limit(uint64_t stack_limit)
{
	return MAX(MIN(stack_limit / 4, STRINGS_MAX), (uint64_t)STRINGS_MIN);
}

static int strings_reserve(struct loader_strings *s, size_t more)
{
	size_t want = s->size + more, capacity = MAX(s->capacity, (size_t)1024);
	char *text;

	if (want <= s->capacity)
		return 0;
	while (capacity < want)
		capacity *= 2;
	text = realloc(s->text, capacity);
	if (!text)
		return -ENOMEM;
	s->text = text;
	s->capacity = capacity;
	return 0;
}

int loader_strings_add(struct loader_strings *s, const char *str, size_t len, bool env, uint64_t limit)
{
	uint64_t pointers = ((uint64_t)s->argc + s->envc + 1) * sizeof(uint64_t);
	int r;

	if (len >= STRING_MAX || s->size + len + 1 + pointers > limit)
		return -E2BIG;
	r = strings_reserve(s, len + 1);
	if (r < 0)
		return r;
	memcpy(s->text + s->size, str, len);
	s->text[s->size + len] = 0;
	s->size += len + 1;
	if (env) {
		s->envc++;
	} else {
		s->argc++;
		s->env_offset = s->size;
	}
	return 0;
}

/* Replaces argv[0] by count strings. */
static int strings_replace_first(struct loader_strings *s, const char *const *with, unsigned count, uint64_t limit)
{
	size_t old = s->argc ? strlen(s->text) + 1 : 0, new = 0, at = 0;
	int r;

	for (unsigned i = 0; i < count; i++)
		new += strlen(with[i]) + 1;
	if (s->size - old + new + (uint64_t)(s->argc + s->envc + count) * 8 > limit)
		return -E2BIG;
	r = new > old ? strings_reserve(s, new - old) : 0;
	if (r < 0)
		return r;
	if (s->size > old)
		memmove(s->text + new, s->text + old, s->size - old);
	for (unsigned i = 0; i < count; i++) {
		size_t n = strlen(with[i]) + 1;

		memcpy(s->text + at, with[i], n);
		at += n;
	}
	s->size = s->size - old + new;
	s->env_offset = s->env_offset - old + new;
	s->argc += count - (old ? 1 : 0);
	return 0;
}

static int64_t read_at(struct file *f, void *buf, size_t size, int64_t offset)
{
	size_t done = 0;

	while (done < size) {
		int64_t pos = offset + (int64_t)done, n;
		struct uio u;

		uio_init_kernel(&u, (char *)buf + done, size - done);
		n = file_read(f, &u, &pos);
		if (n < 0)
			return n == -EAGAIN ? -EIO : n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (int64_t)done;
}

/* Reads the head of f and parses it; long program header tables take a second, larger read. */
static int read_elf(struct file *f, const uint8_t *head, size_t size, struct elf_image *ret)
{
	size_t need = 0;
	uint8_t *big;
	int64_t n;
	int r = elf_parse(head, size, ret, &need);

	if (r != -E2BIG || size < ELF_HEAD_SIZE)
		return r == -E2BIG ? -ENOEXEC : r;
	big = malloc(need);
	if (!big)
		return -ENOMEM;
	n = read_at(f, big, need, 0);
	r = n < 0 ? (int)n : elf_parse(big, (size_t)n, ret, &need);
	free(big);
	return r == -E2BIG ? -ENOEXEC : r;
}

/* Splits "#! interp arg" in place. *ret_arg is NULL without argument. */
static int script_split(char *line, char **ret_interp, char **ret_arg)
{
	char *p = line + 2, *end;

	end = line + strlen(line);
	while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = 0;
	p += strspn(p, " \t");
	if (*p == 0)
		return -ENOEXEC;
	*ret_interp = p;
	p += strcspn(p, " \t");
	*ret_arg = NULL;
	if (*p) {
		*p++ = 0;
		p += strspn(p, " \t");
		*ret_arg = *p ? p : NULL;
	}
	return 0;
}

static int open_exec(const struct walk *w, const char *pathname, struct file **ret)
{
	AUTO(file_put) struct file *f = NULL;
	int r = vfs_open(w, pathname, WALK_FOLLOW, O_RDONLY, 0, &f);

	if (r < 0)
		return r;
	r = loader_check_exec(f, w->cred);
	if (r < 0)
		return r;
	*ret = TAKE(f);
	return 0;
}

int loader_check_exec(struct file *f, const struct cred *cred)
{
	struct kstat st;
	int r = vfs_getattr(file_path(f), &st);

	if (r < 0)
		return r;
	if (!S_ISREG(st.mode))
		return -EACCES;
	return path_permission(file_path(f), cred, 1);
}

static int open_interp(const struct walk *w, struct loader_program *p)
{
	char path[PATH_MAX_GUEST];
	uint8_t head[ELF_HEAD_SIZE];
	int64_t n = read_at(p->exe, path, p->elf.interp_size, (int64_t)p->elf.interp_offset);
	int r;

	if (n < 0)
		return (int)n;
	if ((uint64_t)n < p->elf.interp_size || path[n - 1] != 0)
		return -ENOEXEC;
	r = open_exec(w, path, &p->interp);
	if (r < 0)
		return r;
	n = read_at(p->interp, head, sizeof(head), 0);
	if (n < 0)
		return (int)n;
	r = read_elf(p->interp, head, (size_t)n, &p->interp_elf);
	return r == -ENOEXEC || r == -EINVAL ? -ELIBBAD : r;
}

int loader_prepare(const struct walk *w, struct file *file, const char *pathname,
		   struct loader_strings *strings, uint64_t strings_limit, struct loader_program *ret)
{
	struct loader_program p = { .exe = file_get(file) };
	char script[SCRIPT_HEAD], *current_name = strdup(pathname);
	uint8_t head[ELF_HEAD_SIZE];
	int64_t n;
	int r;

	p.execfn = strdup(pathname);
	r = p.execfn && current_name ? loader_check_exec(file, w->cred) : -ENOMEM;
	for (int depth = 0; r == 0; depth++) {
		char *interp, *arg, *name, *newline;
		const char *with[3];
		unsigned count = 0;

		n = read_at(p.exe, head, sizeof(head), 0);
		if (n < 0) {
			r = (int)n;
			break;
		}
		if (n < 2 || head[0] != '#' || head[1] != '!') {
			r = read_elf(p.exe, head, (size_t)n, &p.elf);
			break;
		}
		if (depth == SCRIPT_DEPTH) {
			r = -ELOOP;
			break;
		}
		n = MIN(n, (int64_t)SCRIPT_HEAD - 1);
		memcpy(script, head, (size_t)n);
		script[n] = 0;
		newline = strchr(script, '\n');
		if (newline)
			*newline = 0;
		r = script_split(script, &interp, &arg);
		if (r == 0 && !newline && n == SCRIPT_HEAD - 1 && !arg)
			r = -ENOEXEC; /* the interpreter's name may be cut off */
		if (r < 0)
			break;
		with[count++] = interp;
		if (arg)
			with[count++] = arg;
		with[count++] = current_name;
		r = strings_replace_first(strings, with, count, strings_limit);
		name = strdup(interp);
		if (r == 0 && !name)
			r = -ENOMEM;
		free(current_name);
		current_name = name;
		file_put(TAKE(p.exe));
		if (r == 0)
			r = open_exec(w, current_name, &p.exe);
		p.from_script = true;
	}
	free(current_name);
	if (r == 0 && p.elf.interp_size)
		r = open_interp(w, &p);
	if (r < 0) {
		loader_program_fini(&p);
		return r;
	}
	*ret = p;
	return 0;
}

void loader_program_fini(struct loader_program *p)
{
	file_put(TAKE(p->exe));
	file_put(TAKE(p->interp));
	free(TAKE(p->execfn));
}
