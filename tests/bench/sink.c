/* The world, as fast as can be: an SMTP server on loopback that takes everything and counts it.
 * usage: sink COUNTERS PORT
 * COUNTERS is a file that it shares: for each of two classes of recipients, those at "*small.example" (1) and all others (0),
 * how many there were and when the last one's message was acknowledged (nanoseconds, CLOCK_MONOTONIC). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct counters { uint64_t recipients[2], last[2], messages; };
struct client { int fd, in_data; size_t used, room; char *buffer; uint64_t recipients[2]; };

static volatile struct counters *shared;
static char replies[1 << 17];
static size_t pending;

static void say(const char *reply) {
    size_t length = strlen(reply);
    if (pending + length < sizeof replies) { memcpy(replies + pending, reply, length); pending += length; }
}

static void command(struct client *c, const char *line, size_t length) {
    if (!strncasecmp(line, "RCPT", 4)) {
        c->recipients[memmem(line, length, "small.example>", 14) != NULL]++;
        say("250 2.1.5 Ok\r\n");
    } else if (!strncasecmp(line, "DATA", 4)) { c->in_data = 1; say("354 Go\r\n"); }
    else if (!strncasecmp(line, "EHLO", 4)) say("250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n");
    else if (!strncasecmp(line, "QUIT", 4)) { say("221 2.0.0 Bye\r\n"); c->in_data = -1; }
    else { if (!strncasecmp(line, "RSET", 4)) c->recipients[0] = c->recipients[1] = 0; say("250 2.0.0 Ok\r\n"); }
}

static void taken(struct client *c) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    for (int class = 0; class < 2; class++) if (c->recipients[class]) {
        shared->recipients[class] += c->recipients[class];
        shared->last[class] = t.tv_sec * 1000000000ull + t.tv_nsec;
        c->recipients[class] = 0;
    }
    shared->messages++;
    say("250 2.0.0 Ok\r\n");
}

static int feed(struct client *c) {  /* all that is whole; 0 to go on */
    size_t at = 0;
    pending = 0;
    while (at < c->used && c->in_data >= 0) {
        char *start = c->buffer + at;
        size_t left = c->used - at;
        if (c->in_data) {
            char *end = c->in_data == 1 && left >= 3 && !memcmp(start, ".\r\n", 3) ? start - 2 : memmem(start, left, "\r\n.\r\n", 5);
            if (!end) { size_t keep = left > 4 ? 4 : left; if (left > 4) c->in_data = 2; at += left - keep; break; }
            at = end + 5 - c->buffer;
            c->in_data = 0;
            taken(c);
        } else {
            char *end = memchr(start, '\n', left);
            if (!end) break;
            command(c, start, end - start);
            at = end + 1 - c->buffer;
        }
    }
    memmove(c->buffer, c->buffer + at, c->used - at);
    c->used -= at;
    return (pending && write(c->fd, replies, pending) < 0) || c->in_data < 0;
}

int main(int argc, char **argv) {
    if (argc != 3) return 64;
    int file = open(argv[1], O_RDWR | O_CREAT, 0644), queue = epoll_create1(0), on = 1, door = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (ftruncate(file, sizeof *shared)) return 1;
    shared = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(door, (void *)&here, sizeof here) || listen(door, 1024)) { perror("sink"); return 1; }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(queue, EPOLL_CTL_ADD, door, &event);
    for (;;) {
        struct epoll_event events[128];
        int count = epoll_wait(queue, events, 128, -1);
        for (int i = 0; i < count; i++) {
            struct client *c = events[i].data.ptr;
            if (!c) {
                c = calloc(1, sizeof *c);
                c->fd = accept(door, 0, 0);
                if (c->fd < 0) { free(c); continue; }
                setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                c->buffer = malloc(c->room = 1 << 16);
                if (write(c->fd, "220 sink ESMTP\r\n", 16) < 0) { close(c->fd); free(c->buffer); free(c); continue; }
                event.data.ptr = c;
                epoll_ctl(queue, EPOLL_CTL_ADD, c->fd, &event);
                continue;
            }
            if (c->used + 32768 > c->room) c->buffer = realloc(c->buffer, c->room *= 2);
            ssize_t got = read(c->fd, c->buffer + c->used, c->room - c->used);
            if (got > 0) c->used += got;
            if (got <= 0 || feed(c)) { close(c->fd); free(c->buffer); free(c); }
        }
    }
}
