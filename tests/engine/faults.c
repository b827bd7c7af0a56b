/* A file system that fails on command, for tests of what a killed or failing process leaves behind.
 *
 * Preloaded (LD_PRELOAD), this library stands before the C library's functions that change files. Those
 * that touch a path at or below one root folder are counted, in the process that armed the shim and while
 * it is armed; everything else passes. At the operation with the wanted number it acts:
 *
 *   kill        the process dies by SIGKILL instead of the operation
 *   kill_after  it does the operation, then dies
 *   torn        a write puts half of its bytes, then dies; only writes are counted
 *   enospc, eio the operation is not done and fails with that error, once
 *   full        from there on, whatever needs space fails with ENOSPC, as on a full disk
 *
 * A sync is judged like the rest, but not done: what a dead process wrote is safe with the kernel, no test
 * here cuts the power, and the disk would be most of the time.
 *
 * The operations so far, by their first letters, and the one that was hit lie in memory that is shared with
 * the parent, which can read them after the death. Python opens temporary files by open(), so the mkstemp
 * family is not needed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum action { NOTHING, KILL, KILL_AFTER, TORN, ENOSPC_ONCE, EIO_ONCE, FULL };
static const char *const NAMES[] = {"", "kill", "kill_after", "torn", "enospc", "eio", "full"};

enum kind { CHANGE, GROWTH, WRITE }; /* growth needs space; a write does, too, and can be torn */
enum verdict { PASS, FAIL, TEAR, DIE_AFTER };

struct record {
    atomic_int count;
    int hit;
    char operations[1 << 16], operation[16], path[PATH_MAX];
};

static struct record *record;
static pid_t armed;
static enum action action;
static int target;
static char root[PATH_MAX];

__attribute__((constructor)) static void share(void)
{
    record = mmap(NULL, sizeof *record, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* What Python calls. `number` 0 only counts. Returns -1 for an action that does not exist. */
int fault_arm(int number, const char *name, const char *folder)
{
    memset(record, 0, sizeof *record);
    snprintf(root, sizeof root, "%s", folder);
    target = number;
    for (action = FULL; action > NOTHING && strcmp(name, NAMES[action]) != 0; action--)
        ;
    armed = getpid();
    return action == NOTHING && number ? -1 : 0;
}

void fault_disarm(void) { armed = 0; }
const char *fault_operations(void) { return record->operations; }
int fault_hit(void) { return record->hit; }
const char *fault_operation(void) { return record->operation; }
const char *fault_path(void) { return record->path; }

static _Noreturn void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static int below_root(const char *path)
{
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static enum verdict fail(int number)
{
    errno = number;
    return FAIL;
}

static enum verdict judge(const char *operation, const char *path, enum kind kind)
{
    if (armed == 0 || armed != getpid() || !below_root(path) || (action == TORN && kind != WRITE))
        return PASS;
    int number = atomic_fetch_add(&record->count, 1) + 1;
    if (number < (int)sizeof record->operations)
        record->operations[number - 1] = operation[0];
    int due = action == FULL ? target && number >= target && kind != CHANGE : number == target;
    if (!due)
        return PASS;
    if (!record->hit) {
        snprintf(record->operation, sizeof record->operation, "%s", operation);
        snprintf(record->path, sizeof record->path, "%s", path);
        record->hit = number;
    }
    switch (action) {
    case KILL: die();
    case KILL_AFTER: return DIE_AFTER;
    case TORN: return TEAR;
    case EIO_ONCE: return fail(EIO);
    case ENOSPC_ONCE:
    case FULL: return fail(ENOSPC);
    default: return PASS;
    }
}

/* The path that a name means below an open folder, or what an open file is called (`name` NULL). */
static const char *absolute(int folder, const char *name, char *buffer)
{
    if (name && name[0] == '/')
        return name;
    char link[64];
    if (folder == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    int saved = errno;
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    errno = saved;
    if (length < 0)
        length = 0;
    buffer[length] = '\0';
    if (name)
        snprintf(buffer + length, PATH_MAX - length, "/%s", name);
    return buffer;
}

#define REAL(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

/* Judge the operation, then do it with `call`, or fail. */
#define GUARD(type, operation, kind, folder, name, call)                              \
    do {                                                                              \
        char buffer[PATH_MAX];                                                        \
        enum verdict verdict = judge(operation, absolute(folder, name, buffer), kind); \
        if (verdict == FAIL)                                                          \
            return -1;                                                                \
        type result = call;                                                           \
        if (verdict == DIE_AFTER)                                                     \
            die();                                                                    \
        return result;                                                                \
    } while (0)

/* The same for a write of `size` bytes; `half` writes the first half of them. */
#define GUARD_WRITE(operation, fd, call, half)                                          \
    do {                                                                                \
        char buffer[PATH_MAX];                                                          \
        enum verdict verdict = judge(operation, absolute(fd, NULL, buffer), WRITE);     \
        if (verdict == FAIL)                                                            \
            return -1;                                                                  \
        ssize_t result = verdict == TEAR ? half : call;                                 \
        if (verdict != PASS)                                                            \
            die();                                                                      \
        return result;                                                                  \
    } while (0)

static int changes(int flags) { return (flags & (O_CREAT | O_TRUNC)) || (flags & O_ACCMODE) != O_RDONLY; }

#define MODE_OF(flags)                                 \
    mode_t mode = 0;                                   \
    if (flags & (O_CREAT | __O_TMPFILE)) {             \
        va_list arguments;                             \
        va_start(arguments, flags);                    \
        mode = va_arg(arguments, mode_t);              \
        va_end(arguments);                             \
    }

#define OPEN(function)                                                                      \
    int function(const char *path, int flags, ...)                                          \
    {                                                                                       \
        MODE_OF(flags)                                                                      \
        if (!changes(flags))                                                                \
            return REAL(function)(path, flags, mode);                                       \
        GUARD(int, "open", flags & O_CREAT ? GROWTH : CHANGE, AT_FDCWD, path,               \
              REAL(function)(path, flags, mode));                                           \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(function)                                                                    \
    int function(int folder, const char *path, int flags, ...)                              \
    {                                                                                       \
        MODE_OF(flags)                                                                      \
        if (!changes(flags))                                                                \
            return REAL(function)(folder, path, flags, mode);                               \
        GUARD(int, "open", flags & O_CREAT ? GROWTH : CHANGE, folder, path,                 \
              REAL(function)(folder, path, flags, mode));                                   \
    }
OPENAT(openat)
OPENAT(openat64)

int creat(const char *path, mode_t mode)
{
    GUARD(int, "creat", GROWTH, AT_FDCWD, path, REAL(creat)(path, mode));
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    GUARD_WRITE("write", fd, REAL(write)(fd, bytes, size), REAL(write)(fd, bytes, size / 2));
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
    GUARD_WRITE("pwrite", fd, REAL(pwrite)(fd, bytes, size, at), REAL(pwrite)(fd, bytes, size / 2, at));
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at)
{
    GUARD_WRITE("pwrite", fd, REAL(pwrite64)(fd, bytes, size, at), REAL(pwrite64)(fd, bytes, size / 2, at));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    GUARD_WRITE("writev", fd, REAL(writev)(fd, parts, count), REAL(writev)(fd, parts, count / 2));
}

ssize_t sendfile64(int fd, int from, off64_t *at, size_t size)
{
    GUARD_WRITE("sendfile", fd, REAL(sendfile64)(fd, from, at, size), REAL(sendfile64)(fd, from, at, 1));
}

int fsync(int fd) { GUARD(int, "fsync", CHANGE, fd, NULL, 0); }
int fdatasync(int fd) { GUARD(int, "fdatasync", CHANGE, fd, NULL, 0); }
int ftruncate(int fd, off_t size) { GUARD(int, "ftruncate", CHANGE, fd, NULL, REAL(ftruncate)(fd, size)); }
int ftruncate64(int fd, off64_t size)
{
    GUARD(int, "ftruncate", CHANGE, fd, NULL, REAL(ftruncate64)(fd, size));
}
int fchmod(int fd, mode_t mode) { GUARD(int, "fchmod", CHANGE, fd, NULL, REAL(fchmod)(fd, mode)); }

int chmod(const char *path, mode_t mode)
{
    GUARD(int, "chmod", CHANGE, AT_FDCWD, path, REAL(chmod)(path, mode));
}

int fchmodat(int folder, const char *path, mode_t mode, int flags)
{
    GUARD(int, "chmod", CHANGE, folder, path, REAL(fchmodat)(folder, path, mode, flags));
}

int rename(const char *old, const char *new)
{
    GUARD(int, "rename", CHANGE, AT_FDCWD, new, REAL(rename)(old, new));
}

int renameat(int from, const char *old, int to, const char *new)
{
    GUARD(int, "rename", CHANGE, to, new, REAL(renameat)(from, old, to, new));
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    GUARD(int, "rename", CHANGE, to, new, REAL(renameat2)(from, old, to, new, flags));
}

int link(const char *old, const char *new) { GUARD(int, "link", GROWTH, AT_FDCWD, new, REAL(link)(old, new)); }

int symlink(const char *old, const char *new)
{
    GUARD(int, "symlink", GROWTH, AT_FDCWD, new, REAL(symlink)(old, new));
}

int unlink(const char *path) { GUARD(int, "unlink", CHANGE, AT_FDCWD, path, REAL(unlink)(path)); }
int unlinkat(int folder, const char *path, int flags)
{
    GUARD(int, "unlink", CHANGE, folder, path, REAL(unlinkat)(folder, path, flags));
}
int rmdir(const char *path) { GUARD(int, "rmdir", CHANGE, AT_FDCWD, path, REAL(rmdir)(path)); }

int mkdir(const char *path, mode_t mode)
{
    GUARD(int, "mkdir", GROWTH, AT_FDCWD, path, REAL(mkdir)(path, mode));
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    GUARD(int, "mkdir", GROWTH, folder, path, REAL(mkdirat)(folder, path, mode));
}
