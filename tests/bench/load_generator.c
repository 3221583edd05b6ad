// A single-threaded HTTP/1.1 load generator. It prints one line of JSON; times are in microseconds.
//
// usage: load_generator PORT PATH mode=closed|open|stream [key=value ...]
//
//   body=FILE       the request body (POST; without it, GET)        header=NAME: VALUE   one more header; may be
//   repeated connections=64  connections, or streams that are open at once   rate=200             open mode: arrivals
//   per second warmup=1        seconds before the measured window              seconds=5            length of the
//   measured window ramp=1          stream mode: seconds over which streams begin   once=1               stream mode: a
//   stream that ends events=100      stream mode: content events a whole stream has                       is not begun
//   again
//
// closed: each connection asks again as soon as it is answered; the rate is what the system can do.
// open:   requests arrive at fixed instants whether or not earlier ones were answered, and latency counts from the
// scheduled
//         arrival, so a stall is charged to every request that it delayed (no coordinated omission).
// stream: each content event carries the time of its upstream write (see mock_upstream.c); its age here is the one-way
// transit
//         through the system. Time to first token counts from the request's first byte. This mode polls instead of
//         sleeping: a sender never pays for waking the generator, and no arrival waits for a wake-up.
//
// An answer counts as an error unless it is a complete 200 with a body, and, in stream mode, with all its events and
// [DONE].
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    SUB_BUCKETS = 64,  // per power of two: a quantile is within 0.8 % of the truth
    MAX_HEAD_BYTES = 16384,
    MAX_BODY_BYTES = 1 << 20,
    MAX_WAITING = 1 << 20,
    MAX_EVENTS = 1024,
    MIN_ANSWER_BYTES = 20,
    MARK_LEN = 4,
    STAMP_LEN = 16,
};

static const char MARK[] = "tok@";
static const char DONE[] = "[DONE]";
static const uint64_t CLOSED_START_GAP_NS = 20 * 1000;

typedef enum { CLOSED, OPEN, STREAM } Mode;
typedef enum { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END, LAST_CHUNK } ChunkState;
typedef enum { IDLE, BUSY, FINISHED } Phase;

typedef struct {
    uint64_t count, max_ns;
    double sum_ns;
    uint32_t buckets[64 * SUB_BUCKETS];
} Histogram;

typedef struct {
    int fd;  // -1 when not connected
    Phase phase;
    uint64_t started_ns;
    const char* unsent;
    int unsent_len, wants_write;

    char head[MAX_HEAD_BYTES];
    int head_len, in_body, status, keep_alive, chunked;
    long body_left;  // -1 when the answer has no Content-Length
    long chunk_left;
    ChunkState chunk_state;
    long body_bytes;

    int matched;  // of MARK and the stamp behind it: the event may be split between two reads anywhere
    int done_matched;
    uint64_t stamp;
    int events;
} Connection;

static Mode mode = CLOSED;
static int port, connection_count = 64, once, expected_events = 100;
static double rate = 200, seconds = 5, warmup = 1, ramp = 1;
static char* request;
static int request_len;

static int poller;
static Connection* connections;
static int *idle, idle_count;
static uint64_t* waiting;  // open mode: a ring of scheduled arrivals that found no idle connection
static uint64_t waiting_head, waiting_tail;

static uint64_t window_begin_ns, window_end_ns;
static Histogram latency, transit, first_token, duration;
static uint64_t answered, errors, events_received;
static char first_error[160];

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int in_window(uint64_t t) { return t >= window_begin_ns && t < window_end_ns; }

// ---- histograms ----

static void observe(Histogram* h, int64_t ns) {
    uint64_t v = ns < 1 ? 1 : (uint64_t)ns;
    int octave = 63 - __builtin_clzll(v);
    int sub = octave >= 6 ? (v >> (octave - 6)) & 63 : (v << (6 - octave)) & 63;
    h->buckets[octave * SUB_BUCKETS + sub]++;
    h->count++;
    h->sum_ns += v;
    if (v > h->max_ns) h->max_ns = v;
}

static double quantile_us(const Histogram* h, double q) {
    uint64_t rank = (uint64_t)ceil(q * h->count), seen = 0;
    if (!h->count) return 0;
    if (rank < 1) rank = 1;
    for (int i = 0; i < 64 * SUB_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank) {
            double base = ldexp(1, i / SUB_BUCKETS);
            return (base + base * (i % SUB_BUCKETS + 0.5) / SUB_BUCKETS) / 1000;
        }
    }
    return h->max_ns / 1000.0;
}

// ---- connections ----

static void watch(int i, int writable) {
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.u32 = i};
    epoll_ctl(poller, EPOLL_CTL_MOD, connections[i].fd, &event);
    connections[i].wants_write = writable;
}

static int open_connection(int i) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(fd, (struct sockaddr*)&address, sizeof address) < 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ioctl(fd, FIONBIO, &one);
    connections[i].fd = fd;
    connections[i].wants_write = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
    return epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static void drop(int i) {
    if (connections[i].fd >= 0) close(connections[i].fd);
    connections[i].fd = -1;
}

static void send_unsent(int i) {
    Connection* c = &connections[i];
    while (c->unsent_len > 0) {
        ssize_t sent = send(c->fd, c->unsent, c->unsent_len, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN)
                c->unsent_len = 0;  // the read side will see the reset and count the error
            else if (!c->wants_write)
                watch(i, 1);
            return;
        }
        c->unsent += sent;
        c->unsent_len -= sent;
    }
    if (c->wants_write) watch(i, 0);
}

static void count_error(const Connection* c, const char* what) {
    if (!in_window(now_ns())) return;
    if (!errors++)
        snprintf(first_error, sizeof first_error, "%s: status %d, %ld bytes, %d events", what, c->status, c->body_bytes,
                 c->events);
}

static void begin(int i, uint64_t started_ns) {
    Connection* c = &connections[i];
    c->status = c->events = 0;
    c->body_bytes = 0;
    if (c->fd < 0 && open_connection(i) < 0) {
        count_error(c, "connect refused");
        return;
    }
    c->phase = BUSY;
    c->started_ns = started_ns;
    c->head_len = c->in_body = c->matched = c->done_matched = 0;
    c->unsent = request;
    c->unsent_len = request_len;
    send_unsent(i);
}

static int is_whole(const Connection* c) {
    if (c->status != 200 || c->body_bytes < MIN_ANSWER_BYTES) return 0;
    return mode != STREAM || (c->events == expected_events && c->done_matched == (int)sizeof DONE - 1);
}

static void finish(int i, int complete) {
    Connection* c = &connections[i];
    uint64_t now = now_ns();
    int good = complete && is_whole(c);
    if (!good)
        count_error(c, complete ? "bad answer" : "connection closed");
    else if (in_window(now)) {
        answered++;
        observe(mode == STREAM ? &duration : &latency, now - c->started_ns);
    }
    if (!complete || !c->keep_alive) drop(i);
    c->phase = once ? FINISHED : IDLE;
    if (once || now >= window_end_ns) return;
    if (mode != OPEN)
        begin(i, now);
    else if (waiting_head < waiting_tail)
        begin(i, waiting[waiting_head++ % MAX_WAITING]);
    else
        idle[idle_count++] = i;
}

// ---- answers ----

static int hex_digit(char ch) { return ch <= '9' ? ch - '0' : (ch | 32) - 'a' + 10; }

static void take_event(Connection* c, uint64_t now) {
    if (in_window(now)) {
        if (!c->events) observe(&first_token, now - c->started_ns);
        observe(&transit, (int64_t)(now - c->stamp));
        events_received++;
    }
    c->events++;
}

// Where `text` continues in [p, end) after `*matched` of its characters; NULL, with `*matched` kept for the next piece,
// at the end.
static const char* match(const char* text, int text_len, int* matched, const char* p, const char* end) {
    while (p < end) {
        if (!*matched && !(p = memchr(p, text[0], end - p))) return NULL;
        if (*p == text[*matched]) {
            p++;
            if (++*matched == text_len) return p;
        } else if (*matched)
            *matched = 0;  // look at this character again: it may begin the text (which repeats no prefix of its own)
        else
            p++;
    }
    return NULL;
}

static void scan_events(Connection* c, const char* p, const char* end, uint64_t now) {
    const char* last_event = p;
    while (p < end) {
        if (c->matched < MARK_LEN) {
            if (c->matched == 0) {
                const char* found = memmem(p, end - p, MARK, MARK_LEN);
                p = found ? found : (end - p >= MARK_LEN ? end - MARK_LEN + 1 : p);
            }
            if (!(p = match(MARK, MARK_LEN, &c->matched, p, end))) break;
            c->stamp = 0;
        }
        for (; p < end && c->matched < MARK_LEN + STAMP_LEN; c->matched++) c->stamp = c->stamp << 4 | hex_digit(*p++);
        if (c->matched == MARK_LEN + STAMP_LEN) {
            take_event(c, now);
            c->matched = 0;
            last_event = p;
        }
    }
    if (c->events >= expected_events && c->done_matched < (int)sizeof DONE - 1)
        match(DONE, sizeof DONE - 1, &c->done_matched, last_event, end);
}

static void take_payload(Connection* c, const char* p, long len, uint64_t now) {
    c->body_bytes += len;
    if (mode == STREAM) scan_events(c, p, p + len, now);
}

static void parse_head(Connection* c) {
    c->status = atoi(c->head + 9);
    c->body_left = -1;
    c->chunked = 0;
    c->keep_alive = 1;
    for (char* line = c->head; (line = strchr(line, '\n'));) {
        line++;
        if (!strncasecmp(line, "content-length:", 15)) c->body_left = atol(line + 15);
        if (!strncasecmp(line, "transfer-encoding:", 18)) c->chunked = 1;
        if (!strncasecmp(line, "connection: close", 17)) c->keep_alive = 0;
    }
    c->chunk_state = CHUNK_SIZE;
    c->chunk_left = 0;
}

// Takes head bytes up to and including the blank line; how many of `len` it used, or -1 when the head is too long.
static int take_head(Connection* c, const char* p, int len) {
    int room = MAX_HEAD_BYTES - 1 - c->head_len, before = c->head_len;
    int used = len < room ? len : room;
    memcpy(c->head + c->head_len, p, used);
    c->head_len += used;
    c->head[c->head_len] = 0;
    char* end = strstr(c->head, "\r\n\r\n");
    if (!end) return used < len ? -1 : used;
    used = (int)(end - c->head) + 4 - before;
    *end = 0;
    parse_head(c);
    c->in_body = c->status != 100;  // an interim answer is skipped
    if (!c->in_body) c->head_len = 0;
    return used;
}

// One step of the chunked coding (RFC 9112, 7.1); `*done` is set behind the last chunk.
static const char* take_chunked(Connection* c, const char* p, const char* end, uint64_t now, int* done) {
    if (c->chunk_state == CHUNK_DATA) {
        long len = end - p < c->chunk_left ? end - p : c->chunk_left;
        take_payload(c, p, len, now);
        c->chunk_left -= len;
        if (!c->chunk_left) c->chunk_state = CHUNK_END;
        return p + len;
    }
    char ch = *p++;
    switch (c->chunk_state) {
        case CHUNK_SIZE:
        case CHUNK_EXTENSION:
            if (ch == '\n')
                c->chunk_state = c->chunk_left ? CHUNK_DATA : LAST_CHUNK;
            else if (ch == ';')
                c->chunk_state = CHUNK_EXTENSION;
            else if (ch != '\r' && c->chunk_state == CHUNK_SIZE)
                c->chunk_left = c->chunk_left * 16 + hex_digit(ch);
            break;
        case CHUNK_END:
            if (ch == '\n') c->chunk_state = CHUNK_SIZE;
            break;
        default:  // LAST_CHUNK: the upstreams here send no trailers
            *done = ch == '\n';
    }
    return p;
}

// 1 when the answer is complete, 0 when more must come, -1 when it is not HTTP.
static int take_bytes(int i, const char* p, int len, uint64_t now) {
    Connection* c = &connections[i];
    const char* end = p + len;
    int done = 0;
    while (p < end && !done) {
        if (!c->in_body) {
            int used = take_head(c, p, end - p);
            if (used < 0) return -1;
            p += used;
            done = c->in_body && c->body_left == 0 && !c->chunked;
        } else if (c->chunked)
            p = take_chunked(c, p, end, now, &done);
        else {
            long take = c->body_left >= 0 && c->body_left < end - p ? c->body_left : end - p;
            take_payload(c, p, take, now);
            p += take;
            if (c->body_left >= 0) done = (c->body_left -= take) == 0;
        }
    }
    return done;
}

static void receive(int i) {
    static char bytes[262144];
    Connection* c = &connections[i];
    ssize_t got = recv(c->fd, bytes, sizeof bytes, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        int until_close = got == 0 && c->in_body && !c->chunked && c->body_left < 0;
        if (c->phase == BUSY) {
            c->keep_alive = 0;
            finish(i, until_close);
        } else
            drop(i);
        return;
    }
    int state = take_bytes(i, bytes, got, now_ns());
    if (state) finish(i, state > 0);
}

// ---- the run ----

static void compose_request(const char* path, const char* headers, const char* body_file) {
    char* body = malloc(MAX_BODY_BYTES);
    size_t body_len = 0;
    if (body_file) {
        FILE* file = fopen(body_file, "r");
        if (!file) {
            perror(body_file);
            exit(2);
        }
        body_len = fread(body, 1, MAX_BODY_BYTES, file);
        fclose(file);
    }
    request = malloc(body_len + 8192);
    request_len = snprintf(request, 8192,
                           "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\nUser-Agent: load_generator\r\n%s",
                           body_file ? "POST" : "GET", path, port, headers);
    if (body_file)
        request_len +=
            sprintf(request + request_len, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body_len);
    request_len += sprintf(request + request_len, "\r\n");
    memcpy(request + request_len, body, body_len);
    request_len += body_len;
    free(body);
}

static void parse_options(int argc, char** argv) {
    char headers[4096] = "";
    const char* body_file = NULL;
    for (int i = 3; i < argc; i++) {
        char* value = strchr(argv[i], '=');
        if (!value) goto unknown;
        size_t name_len = value++ - argv[i];
#define IS(name) (name_len == strlen(name) && !strncmp(argv[i], name, name_len))
        if (IS("mode"))
            mode = !strcmp(value, "closed") ? CLOSED : !strcmp(value, "open") ? OPEN : STREAM;
        else if (IS("body"))
            body_file = value;
        else if (IS("header") && strlen(headers) + strlen(value) + 3 < sizeof headers)
            strcat(strcat(headers, value), "\r\n");
        else if (IS("connections"))
            connection_count = atoi(value);
        else if (IS("rate"))
            rate = atof(value);
        else if (IS("warmup"))
            warmup = atof(value);
        else if (IS("seconds"))
            seconds = atof(value);
        else if (IS("ramp"))
            ramp = atof(value);
        else if (IS("once"))
            once = atoi(value);
        else if (IS("events"))
            expected_events = atoi(value);
        else
            goto unknown;
        continue;
    unknown:
        fprintf(stderr, "load_generator: unknown option `%s`\n", argv[i]);
        exit(2);
    }
    compose_request(argv[2], headers, body_file);
}

static void arrive(uint64_t scheduled_ns) {
    if (idle_count)
        begin(idle[--idle_count], scheduled_ns);
    else if (waiting_tail - waiting_head < MAX_WAITING)
        waiting[waiting_tail++ % MAX_WAITING] = scheduled_ns;
}

static void run(void) {
    uint64_t gap_ns = mode == OPEN     ? (uint64_t)(1e9 / rate)
                      : mode == STREAM ? (uint64_t)(ramp * 1e9 / connection_count)
                                       : CLOSED_START_GAP_NS;
    uint64_t next_ns = now_ns(), now;
    int begun = 0;
    struct epoll_event events[MAX_EVENTS];
    window_begin_ns = next_ns + (uint64_t)(warmup * 1e9);
    window_end_ns = window_begin_ns + (uint64_t)(seconds * 1e9);
    if (mode == OPEN)
        for (int i = connection_count - 1; i >= 0; i--) idle[idle_count++] = i;
    while ((now = now_ns()) < window_end_ns) {
        for (; next_ns <= now && (mode == OPEN || begun < connection_count); next_ns += gap_ns) {
            if (mode == OPEN)
                arrive(next_ns);
            else
                begin(begun++, now);
        }
        int sleeps = mode == CLOSED && begun == connection_count;
        int ready = epoll_wait(poller, events, MAX_EVENTS, sleeps ? 100 : 0);
        for (int k = 0; k < ready; k++) {
            int i = events[k].data.u32;
            if (connections[i].fd >= 0 && events[k].events & EPOLLOUT) send_unsent(i);
            if (connections[i].fd >= 0 && events[k].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(i);
        }
    }
}

static void print_histogram(const char* name, const Histogram* h) {
    printf("\"%s\":{\"count\":%lu,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,\"mean\":%.1f},",
           name, (unsigned long)h->count, quantile_us(h, .5), quantile_us(h, .9), quantile_us(h, .99),
           quantile_us(h, .999), h->max_ns / 1000.0, h->count ? h->sum_ns / h->count / 1000 : 0);
}

static void print_result(void) {
    int open_now = 0;
    for (int i = 0; i < connection_count; i++) open_now += connections[i].phase == BUSY;
    printf("{\"answers_per_s\":%.1f,\"answers\":%lu,\"events_per_s\":%.1f,", answered / seconds,
           (unsigned long)answered, events_received / seconds);
    print_histogram("latency_us", &latency);
    print_histogram("transit_us", &transit);
    print_histogram("first_token_us", &first_token);
    print_histogram("duration_us", &duration);
    printf("\"open\":%d,\"waiting\":%lu,\"errors\":%lu,\"first_error\":\"%s\"}\n", open_now,
           (unsigned long)(waiting_tail - waiting_head), (unsigned long)errors, first_error);
}

int main(int argc, char** argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: load_generator PORT PATH mode=closed|open|stream [key=value ...]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    port = atoi(argv[1]);
    parse_options(argc, argv);
    poller = epoll_create1(0);
    connections = calloc(connection_count, sizeof(Connection));
    idle = calloc(connection_count + 1, sizeof(int));
    waiting = malloc(sizeof(uint64_t) * MAX_WAITING);
    for (int i = 0; i < connection_count; i++) connections[i].fd = -1;
    run();
    print_result();
    return 0;
}
