/*
 * Preloaded into every process of an appliance under test: counts the steps by which it changes what lies on disk below one folder, in the order in
 * which all its processes take them, and ends the appliance right before the chosen one. What SIGKILL leaves then is what a crash between two steps
 * leaves. Built and driven by test/support/fatal-steps.ts, which shares `struct plan` through a file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct plan {
  _Atomic int32_t armed;
  _Atomic int32_t count; /* steps taken while armed */
  int32_t at;            /* the one that is not taken; 0: none */
  int32_t alone;         /* ends only the process that came by, not all of the appliance */
  _Atomic int32_t fired;
};

static struct plan *plan;
static const char *under;
static const char *program = "ekms";
static int log_fd = -1;
static __thread int within;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
  const char *file = getenv("EKMS_FATAL_PLAN");
  under = getenv("EKMS_FATAL_UNDER");
  if (!file || !under) return;
  within = 1;
  int fd = open(file, O_RDWR | O_CLOEXEC);
  if (fd >= 0) {
    void *map = mmap(NULL, sizeof(struct plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) plan = map;
    close(fd);
  }
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s.log", file);
  log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  char words[4096];
  fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  ssize_t got = fd < 0 ? 0 : read(fd, words, sizeof words - 1);
  if (fd >= 0) close(fd);
  for (ssize_t n = 0; n < got; n++)
    if (words[n] == 0) words[n] = ' ';
  words[got > 0 ? got : 0] = 0;
  if (strstr(words, "ekms-kek")) program = "kek";
  else if (strstr(words, "tokens/process/main.js")) program = "token";
  within = 0;
}

static void step(const char *call, const char *path) {
  if (!plan || within || !path || !atomic_load(&plan->armed)) return;
  within = 1;
  char real[PATH_MAX];
  if (path[0] != '/') {
    char folder[PATH_MAX / 2];
    if (getcwd(folder, sizeof folder)) snprintf(real, sizeof real, "%s/%s", folder, path);
    else real[0] = 0;
    path = real;
  }
  if (strncmp(path, under, strlen(under)) == 0) {
    int32_t n = atomic_fetch_add(&plan->count, 1) + 1;
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%d %s %s %s\n", n, program, call, path + strlen(under));
    if (log_fd >= 0 && write(log_fd, line, (size_t)length) < 0) { /* the count stands all the same */ }
    if (n == plan->at) {
      atomic_store(&plan->fired, 1);
      kill(plan->alone ? getpid() : 0, SIGKILL);
      for (;;) pause();
    }
    /* While all are dying, nobody else takes one step more. */
    if (plan->at && n > plan->at && !plan->alone) for (;;) pause();
  }
  within = 0;
}

static void step_fd(const char *call, int fd) {
  if (!plan || within || !atomic_load(&plan->armed)) return;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return;
  path[length] = 0;
  step(call, path);
}

static int makes(const char *path, int flags) { return (flags & O_CREAT) && access(path, F_OK) != 0; }

#define OPEN(name)                                          \
  int name(const char *path, int flags, ...) {              \
    mode_t mode = 0;                                        \
    if (flags & (O_CREAT | O_TMPFILE)) {                    \
      va_list rest;                                         \
      va_start(rest, flags);                                \
      mode = va_arg(rest, mode_t);                          \
      va_end(rest);                                         \
    }                                                       \
    if (plan && makes(path, flags)) step("create", path);   \
    return REAL(name)(path, flags, mode);                   \
  }
OPEN(open)
OPEN(open64)

#define FOPEN(name)                                                                            \
  FILE *name(const char *path, const char *mode) {                                             \
    if (strpbrk(mode, "wa+")) step(access(path, F_OK) == 0 ? "rewrite" : "create", path);      \
    return REAL(name)(path, mode);                                                             \
  }
FOPEN(fopen)
FOPEN(fopen64)

#define ON_PATH(name, declared, given) \
  int name declared {                  \
    step(#name, path);                 \
    return REAL(name) given;           \
  }
ON_PATH(unlink, (const char *path), (path))
ON_PATH(remove, (const char *path), (path))
ON_PATH(rmdir, (const char *path), (path))
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode))

int rename(const char *from, const char *path) {
  step("rename", path);
  return REAL(rename)(from, path);
}

int unlinkat(int folder, const char *path, int flags) {
  if (plan && !within && path[0] != '/' && folder != AT_FDCWD) {
    char link[64], real[PATH_MAX / 2], whole[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, real, sizeof real - 1);
    if (length > 0) {
      real[length] = 0;
      snprintf(whole, sizeof whole, "%s/%s", real, path);
      step("unlink", whole);
    }
  } else step("unlink", path);
  return REAL(unlinkat)(folder, path, flags);
}

#define ON_FD(name, declared, given) \
  int name declared {                \
    step_fd(#name, fd);              \
    return REAL(name) given;         \
  }
ON_FD(fsync, (int fd), (fd))
ON_FD(fdatasync, (int fd), (fd))
ON_FD(ftruncate, (int fd, off_t length), (fd, length))
ON_FD(ftruncate64, (int fd, off64_t length), (fd, length))

#define ON_FD_BYTES(name, declared, given) \
  ssize_t name declared {                  \
    step_fd(#name, fd);                    \
    return REAL(name) given;               \
  }
ON_FD_BYTES(write, (int fd, const void *bytes, size_t length), (fd, bytes, length))
ON_FD_BYTES(pwrite, (int fd, const void *bytes, size_t length, off_t at), (fd, bytes, length, at))
ON_FD_BYTES(pwrite64, (int fd, const void *bytes, size_t length, off64_t at), (fd, bytes, length, at))
ON_FD_BYTES(writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
