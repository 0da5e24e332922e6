/*
 * Storage that fails, for one process that is started with this in LD_PRELOAD.
 *
 * It stands between SQLite and the files of one data directory, and does what a test orders in
 * a control file that both have mapped: let calls fail, let writes be torn, kill the process in
 * the middle of a call, be slow, say that something was synced when it was not.
 *
 * It also keeps, for each file, a journal of everything that was not synced yet: what stood
 * there before each write. A process that is killed loses nothing of what it has written; a
 * machine that loses power does, and power_loss.py makes of the journals what that could be.
 * Syncs are never passed on to the kernel, since only the journals say what is durable.
 *
 * As in Linux, a sync that failed is not made good by the next one: pages whose writing failed
 * count as clean, and every descriptor that was open at the time reports the error once.
 *
 * Not imitated: names. A file that was made or removed is taken to be so at once, for good.
 * Files are those whose names end in .db or -wal; -shm is memory, and dies with the machine.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8, "offsets are handed to system calls as one word");

enum { SYNC = 1, WRITE = 2, TRUNCATE = 4 }; /* calls */
enum { FAIL = 0, SHORT = 1, DIE = 2 };      /* what happens to them */

/* The same fields in the same order as in faults.py. */
struct control {
    uint32_t attached; /* the process that has this mapped */
    uint32_t calls, action, error;
    int32_t skip;        /* calls that pass before the first that is hit */
    int32_t count;       /* calls still to be hit; below zero: all */
    uint32_t per_mille;  /* the chance of each to be hit */
    uint32_t forgetting; /* after a failed sync, reads give what is on disk, not what was written */
    uint32_t lie;        /* syncs succeed, and nothing is synced */
    uint32_t sync_us, write_us; /* how long each takes */
    uint32_t seed;
    uint32_t writes, syncs, truncates, faults; /* counters */
};

enum { WROTE = 'w', CUT = 'c', SYNCED = 's', FAILED = 'f' };

/* A record of a journal: this, `kept` bytes that stood there before, and `total` once more. */
struct record {
    uint32_t kind, kept;
    int64_t offset; /* of a write; the new size; or how much of the journal a sync covers */
    int64_t length, size_before;
    uint32_t total, unused;
};

struct file {
    char name[64];
    int journal;
    int64_t end;       /* of its journal */
    uint32_t failures; /* syncs that have failed */
};

enum { FILES_MAX = 64, DESCRIPTORS_MAX = 4096, JOURNAL_HEAD = 8, KEPT_MAX = 1 << 26 };

static struct control *control;
static const char *directory, *journals;
static struct file files[FILES_MAX];
static int files_known;
static struct {
    struct file *file;
    uint32_t failures_seen;
} descriptors[DESCRIPTORS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t chance_state;

static long raw_write(int fd, const void *bytes, size_t length, int64_t offset) {
    return syscall(SYS_pwrite64, fd, bytes, length, offset);
}

static void must(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "faults.c: %s: %s\n", what, strerror(errno));
        abort();
    }
}

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("FAULTS_CONTROL");
    directory = getenv("FAULTS_DIRECTORY");
    journals = getenv("FAULTS_JOURNALS");
    if (!path || !directory || !journals)
        return;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    must(fd >= 0, path);
    struct control *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(mapped != MAP_FAILED, path);
    syscall(SYS_close, fd);
    chance_state = mapped->seed * 0x9e3779b97f4a7c15u + 1;
    mapped->attached = getpid();
    control = mapped;
}

static uint32_t below(uint32_t limit) {
    chance_state ^= chance_state << 13;
    chance_state ^= chance_state >> 7;
    chance_state ^= chance_state << 17;
    return (uint32_t)(chance_state >> 16) % limit;
}

/* Whether this call is one of those that are to be hit. */
static int is_hit(uint32_t call) {
    if (!(control->calls & call) || control->count == 0)
        return 0;
    if (control->skip > 0) {
        control->skip--;
        return 0;
    }
    if (below(1000) >= control->per_mille)
        return 0;
    if (control->count > 0)
        control->count--;
    control->faults++;
    return 1;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Files and their descriptors */

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcmp(text + length - tail, end);
}

/* Where the last whole record of a journal ends: a kill may have cut off the one after it. */
static int64_t end_of(int journal) {
    int64_t at = JOURNAL_HEAD, end = lseek(journal, 0, SEEK_END);
    struct record head;
    while (pread(journal, &head, sizeof head, at) == sizeof head && at + head.total <= end)
        at += head.total;
    return at;
}

/* The file of a path, NULL when it is none of ours. */
static struct file *file_at(const char *path) {
    size_t prefix = directory ? strlen(directory) : 0;
    if (!control || !path || strncmp(path, directory, prefix) || path[prefix] != '/')
        return NULL;
    const char *name = path + prefix + 1;
    if ((!ends_with(name, ".db") && !ends_with(name, "-wal")) || strlen(name) >= sizeof files->name)
        return NULL;
    for (int number = 0; number < files_known; number++)
        if (!strcmp(files[number].name, name))
            return &files[number];
    must(files_known < FILES_MAX, "too many files");
    struct file *file = &files[files_known++];
    strcpy(file->name, name);
    char journal[PATH_MAX];
    snprintf(journal, sizeof journal, "%s/%s", journals, name);
    file->journal = syscall(SYS_openat, AT_FDCWD, journal, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    must(file->journal >= 0, journal);
    uint64_t head = 0;
    long known = pread(file->journal, &head, sizeof head, 0);
    if (known != sizeof head)
        must(raw_write(file->journal, &head, sizeof head, 0) == sizeof head, journal);
    file->failures = (uint32_t)head;
    file->end = end_of(file->journal);
    must(syscall(SYS_ftruncate, file->journal, file->end) == 0, journal);
    return file;
}

static struct file *file_of(int fd) {
    return control && fd >= 0 && fd < DESCRIPTORS_MAX ? descriptors[fd].file : NULL;
}

static int opened(int fd, const char *path) {
    if (!control || fd < 0 || fd >= DESCRIPTORS_MAX)
        return fd;
    pthread_mutex_lock(&lock);
    struct file *file = file_at(path);
    descriptors[fd].file = file;
    descriptors[fd].failures_seen = file ? file->failures : 0;
    pthread_mutex_unlock(&lock);
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;
    va_end(rest);
    return opened(syscall(SYS_openat, AT_FDCWD, path, flags, mode), path);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;
    va_end(rest);
    return opened(syscall(SYS_openat, AT_FDCWD, path, flags, mode), path);
}

int close(int fd) {
    if (file_of(fd))
        descriptors[fd].file = NULL;
    return syscall(SYS_close, fd);
}

/* Journals */

static void set_failures(struct file *file, uint32_t failures) {
    uint64_t head = file->failures = failures;
    must(raw_write(file->journal, &head, sizeof head, 0) == sizeof head, file->name);
}

static void clear(struct file *file) {
    must(syscall(SYS_ftruncate, file->journal, JOURNAL_HEAD) == 0, file->name);
    file->end = JOURNAL_HEAD;
}

/* Note what is about to happen to a file: `kept` bytes from `from` on are going to be overwritten. */
static void note(struct file *file, int fd, uint32_t kind, int64_t offset, int64_t length, int64_t from,
                 int64_t kept) {
    struct stat status = {0};
    must(fd < 0 || fstat(fd, &status) == 0, file->name);
    if (kept > status.st_size - from)
        kept = status.st_size > from ? status.st_size - from : 0;
    must(kept <= KEPT_MAX, "too much is overwritten at once");
    struct record head = {.kind = kind, .kept = kept, .offset = offset, .length = length,
                          .size_before = status.st_size, .total = sizeof head + kept + 4};
    char *bytes = malloc(head.total);
    must(bytes != NULL, file->name);
    memcpy(bytes, &head, sizeof head);
    if (kept)
        must(pread(fd, bytes + sizeof head, kept, from) == kept, file->name);
    memcpy(bytes + sizeof head + kept, &head.total, 4);
    must(raw_write(file->journal, bytes, head.total, file->end) == head.total, file->name);
    file->end += head.total;
    free(bytes);
}

static long noted_write(struct file *file, int fd, const void *bytes, size_t length, int64_t offset) {
    note(file, fd, WROTE, offset, length, offset, length);
    return raw_write(fd, bytes, length, offset);
}

/* Let reads see what is on disk: everything between the last sync and `end` is undone, newest first. */
static void forget(struct file *file, int fd, int64_t end) {
    while (end > JOURNAL_HEAD) {
        struct record head;
        uint32_t total;
        must(pread(file->journal, &total, 4, end - 4) == 4, file->name);
        end -= total;
        must(pread(file->journal, &head, sizeof head, end) == sizeof head, file->name);
        if (head.kind == SYNCED || head.kind == FAILED)
            return;
        if (head.kind != WROTE)
            continue;
        char *bytes = calloc(1, head.length);
        must(bytes != NULL, file->name);
        must(pread(file->journal, bytes, head.kept, end + sizeof head) == head.kept, file->name);
        noted_write(file, fd, bytes, head.length, head.offset);
        free(bytes);
    }
}

/* The calls */

static long do_write(struct file *file, int fd, const void *bytes, size_t length, int64_t offset) {
    pthread_mutex_lock(&lock);
    control->writes++;
    uint32_t delay_us = control->write_us, action = control->action, error = control->error;
    int hit = length && is_hit(WRITE);
    size_t part = hit ? below(length) : length;
    if (hit && action == SHORT && part == 0)
        part = 1; /* a write that writes nothing and does not fail is one of no storage */
    long written = part ? noted_write(file, fd, bytes, part, offset) : 0;
    if (hit && action == DIE)
        die();
    pthread_mutex_unlock(&lock);
    if (delay_us)
        usleep(delay_us);
    if (hit && action == FAIL) {
        errno = error;
        return -1;
    }
    return written;
}

static int do_truncate(struct file *file, int fd, int64_t size) {
    pthread_mutex_lock(&lock);
    control->truncates++;
    int hit = is_hit(TRUNCATE);
    uint32_t action = control->action, error = control->error;
    if (hit && action == DIE)
        die();
    if (!hit || action != FAIL)
        note(file, fd, CUT, size, 0, size, KEPT_MAX);
    pthread_mutex_unlock(&lock);
    if (hit && action == FAIL) {
        errno = error;
        return -1;
    }
    return syscall(SYS_ftruncate, fd, size);
}

static int do_sync(struct file *file, int fd) {
    pthread_mutex_lock(&lock);
    control->syncs++;
    int hit = is_hit(SYNC);
    uint32_t action = control->action, error = control->error, delay_us = control->sync_us;
    int64_t covered = file->end; /* what is written from now on need not be in it */
    pthread_mutex_unlock(&lock);
    if (delay_us)
        usleep(delay_us);
    pthread_mutex_lock(&lock);
    if (hit && action == DIE)
        die();
    int fails = hit && action == FAIL;
    if (fails) {
        int alone = file->end == covered;
        note(file, -1, FAILED, covered, 0, 0, 0);
        set_failures(file, file->failures + 1);
        if (alone && control->forgetting)
            forget(file, fd, covered);
    } else if (!control->lie) {
        if (file->failures == 0 && file->end == covered)
            clear(file);
        else
            note(file, -1, SYNCED, covered, 0, 0, 0);
    }
    if (descriptors[fd].failures_seen != file->failures) {
        descriptors[fd].failures_seen = file->failures;
        error = fails ? error : EIO;
        fails = 1;
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fails ? -1 : 0;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    struct file *file = file_of(fd);
    return file ? do_write(file, fd, bytes, length, offset) : raw_write(fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return pwrite64(fd, bytes, length, offset);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    struct file *file = file_of(fd);
    if (!file)
        return syscall(SYS_write, fd, bytes, length);
    long written = do_write(file, fd, bytes, length, lseek(fd, 0, SEEK_CUR));
    if (written > 0)
        lseek(fd, written, SEEK_CUR);
    return written;
}

int ftruncate64(int fd, off64_t size) {
    struct file *file = file_of(fd);
    return file ? do_truncate(file, fd, size) : syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size) {
    return ftruncate64(fd, size);
}

int fdatasync(int fd) {
    struct file *file = file_of(fd);
    return file ? do_sync(file, fd) : syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
    struct file *file = file_of(fd);
    return file ? do_sync(file, fd) : syscall(SYS_fsync, fd);
}

int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    struct file *file = file_at(path);
    int result = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (file && result == 0) {
        clear(file);
        set_failures(file, 0);
    }
    pthread_mutex_unlock(&lock);
    return result;
}
