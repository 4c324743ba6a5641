/* An SMTP client that costs next to nothing: hands messages in, on several connections.
 * usage: inject PORT CONNECTIONS PER REVERSE-PATH RECIPIENTS MESSAGE [PARAMETERS]
 * RECIPIENTS is a file of addresses, one a line, PER of them in a transaction; each transaction has a Message-ID and, alone, a To of its own.
 * A turn is the content, its dot and the next envelope (RFC 2920), then the replies. Prints how long it took, in nanoseconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char **recipients, *reverse_path, *message, *parameters = "";
static int count, per, port, next;
static size_t size;
static long long stamp;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int take(void) {
    pthread_mutex_lock(&lock);
    int first = next;
    next += per;
    pthread_mutex_unlock(&lock);
    return first < count ? first : -1;
}

static void replies(FILE *in, int number) {
    char line[4096];
    while (number > 0) {
        if (!fgets(line, sizeof line, in)) { fprintf(stderr, "inject: hung up\n"); exit(2); }
        if (line[0] > '3') { fprintf(stderr, "inject: %s", line); exit(3); }
        if (line[3] == ' ') number--;
    }
}

static void *work(void *_) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1, first, before = 0;
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (void *)&there, sizeof there)) { perror("inject"); exit(1); }
    FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
    setvbuf(out, NULL, _IOFBF, 1 << 18);
    replies(in, 1);
    fputs("EHLO inject.example\r\n", out);
    fflush(out);
    replies(in, 1);
    while ((first = take()) >= 0) {
        int number = count - first < per ? count - first : per;
        fprintf(out, "MAIL FROM:<%s>%s\r\n", reverse_path, parameters);
        for (int i = 0; i < number; i++) fprintf(out, "RCPT TO:<%s>\r\n", recipients[first + i]);
        fputs("DATA\r\n", out);
        fflush(out);
        replies(in, before + number + 2);
        fprintf(out, "Message-ID: <%lld.%d@bench.example>\r\n", stamp, first);
        if (per == 1) fprintf(out, "To: %s\r\n", recipients[first]);
        fwrite(message, 1, size, out);
        fputs(".\r\n", out);
        before = 1;
    }
    fputs("QUIT\r\n", out);
    fflush(out);
    replies(in, before + 1);
    close(fd);
    return _;
}

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc < 7) return 64;
    int connections = atoi(argv[2]);
    port = atoi(argv[1]), per = atoi(argv[3]), reverse_path = argv[4];
    if (argc > 7) asprintf(&parameters, " %s", argv[7]);
    FILE *file = fopen(argv[5], "r");
    char line[512];
    recipients = malloc(1000001 * sizeof *recipients);
    while (count < 1000000 && fgets(line, sizeof line, file)) { line[strcspn(line, "\n")] = 0; recipients[count++] = strdup(line); }
    file = fopen(argv[6], "r");
    message = malloc(1 << 25);
    size = fread(message, 1, 1 << 25, file);
    stamp = now();
    pthread_t threads[256];
    for (int i = 0; i < connections; i++) pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < connections; i++) pthread_join(threads[i], NULL);
    printf("%lld %lld\n", stamp, now());
    return 0;
}
