/* A disk that takes its time for each write: LD_PRELOAD=slow_disk.so SLOW_MS=50 SLOW_FOLDER=/data/ dropmill serve ...
 * Only files below SLOW_FOLDER are slow, whichever call writes them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static void wait_for(int descriptor) {
    static __thread char path[4096];
    const char *folder = getenv("SLOW_FOLDER"), *ms = getenv("SLOW_MS");
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    long length = folder ? readlink(link, path, sizeof path - 1) : -1;
    if (length <= 0) return;
    path[length] = 0;
    if (!strncmp(path, folder, strlen(folder))) usleep(ms ? 1000 * atoi(ms) : 0);
}

#define SLOW(name, parameters, ...)                            \
    ssize_t name parameters {                                  \
        static ssize_t(*real) parameters;                      \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);  \
        wait_for(descriptor);                                  \
        return real(__VA_ARGS__);                              \
    }

SLOW(write, (int descriptor, const void *data, size_t size), descriptor, data, size)
SLOW(pwrite, (int descriptor, const void *data, size_t size, off_t at), descriptor, data, size, at)
SLOW(pwrite64, (int descriptor, const void *data, size_t size, off64_t at), descriptor, data, size, at)
SLOW(writev, (int descriptor, const struct iovec *parts, int count), descriptor, parts, count)
SLOW(pwritev, (int descriptor, const struct iovec *parts, int count, off_t at), descriptor, parts, count, at)
SLOW(pwritev64, (int descriptor, const struct iovec *parts, int count, off64_t at), descriptor, parts, count, at)
