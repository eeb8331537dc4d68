/* The least that receiving a file can cost: recv and write, 256 KiB at a time, a thread a connection. No safety of any
 * kind, but each file is fsynced if so asked. A GET is answered at once. receiver PORT FOLDER [fsync] */
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE (256 * 1024)
static const char *folder;
static int syncs;
static atomic_int files;

static void *receive(void *argument) {
    int connection = (int)(long)argument;
    char *buffer = malloc(PIECE + 1);
    long held = 0;
    for (;;) {
        char *end;
        buffer[held] = 0;
        while (!(end = strstr(buffer, "\r\n\r\n"))) {
            long got = recv(connection, buffer + held, PIECE - held, 0);
            if (got <= 0) goto over;
            buffer[held += got] = 0;
        }
        char *length = strcasestr(buffer, "\r\nContent-Length:");
        long left = length && length < end ? atol(length + 17) : 0;
        if (!strncmp(buffer, "GET ", 4)) {
            const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            if (send(connection, answer, sizeof answer - 1, 0) < 0) goto over;
            held = 0;
            continue;
        }
        char path[4096];
        snprintf(path, sizeof path, "%s/%d", folder, atomic_fetch_add(&files, 1));
        int file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        long early = buffer + held - (end + 4);
        if (file < 0 || write(file, end + 4, early) != early) exit(1);
        for (left -= early; left > 0;) {
            long got = recv(connection, buffer, left < PIECE ? left : PIECE, 0);
            if (got <= 0) goto over;
            if (write(file, buffer, got) != got) exit(1);
            left -= got;
        }
        if (syncs && fsync(file)) exit(1);
        close(file);
        const char answer[] = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
        if (send(connection, answer, sizeof answer - 1, 0) < 0) goto over;
        held = 0;
    }
over:
    close(connection);
    free(buffer);
    return NULL;
}

int main(int count, char **words) {
    if (count < 3) return 2;
    folder = words[2];
    syncs = count > 3 && !strcmp(words[3], "fsync");
    int one = 1, listening = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 128)) return 1;
    for (;;) {
        pthread_t thread;
        int connection = accept(listening, NULL, NULL);
        if (connection >= 0 && !pthread_create(&thread, NULL, receive, (void *)(long)connection)) pthread_detach(thread);
    }
}
