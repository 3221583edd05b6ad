// A mock OpenAI upstream, fast enough (130k requests/s, 180k events/s on one core) never to be what a benchmark
// measures.
//
// usage: mock_upstream PORT          listens on 127.0.0.1 only
//
//   GET  anything                    a small JSON document: health checks and model lists of every proxy accept it
//   POST without `"stream":true`     a chat completion of about 1 KB, with Content-Length
//   POST with `"stream":true`        chunked server-sent events: `max_tokens` content events (100 unless given), one
//   write
//                                    each PACE_NS, then a finish event, a usage event and [DONE] in one last write
//
// Every content event carries `tok@` and 16 hex digits: the CLOCK_MONOTONIC nanosecond at which it was written. The
// load generator on the same machine subtracts it from its own clock: a true one-way delay, not a guess from
// inter-arrival gaps.
//
// A prompt that begins with `pace_us=N` asks for one event every N microseconds instead of 10 ms, so that one upstream,
// under one configuration of each proxy, serves both the throughput and the many-idle-streams measurements.
//
// One thread, one epoll set, one binary heap of the streams ordered by when each writes next.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_FDS = 65536,
    MAX_HEAD_BYTES = 60000,
    MAX_EVENTS = 512,
    TICKS_PER_TURN = 256,  // stream writes between two looks at the sockets
    DEFAULT_EVENTS = 100,
    STAMP_LEN = 16,
    FIELD_WINDOW = 400,  // request fields are sought this near to either end of a body: a prompt may be long
};

static const uint64_t PACE_NS = 10 * 1000 * 1000;
static const uint64_t SPIN_NS =
    2 * 1000 * 1000;  // busy-wait when the next write is nearer: epoll_wait counts in milliseconds

typedef struct {
    char* in;  // bytes received and not yet consumed; always NUL-terminated
    int in_len, in_cap;
    int head_len;     // length of the request head once it is complete, else 0
    int content_len;  // CHUNKED when the body comes in chunks

    char* out;  // bytes that the socket did not take yet
    int out_pos, out_len, out_cap;
    int wants_write;

    int streaming;
    int events_left;
    uint64_t pace_ns, next_ns;
    int heap_index;  // -1 when not in the heap
} Connection;

enum { CHUNKED = -1 };

static Connection* connections[MAX_FDS];
static int poller;
static int heap[MAX_FDS];  // file descriptors; the stream that writes next is first
static int heap_size;

typedef struct {
    char bytes[1024];
    int len;
    char* stamp;  // its STAMP_LEN digits within `bytes`
} Template;

static Template first_event, next_event;  // first_event begins with the response head
static char completion[8192], document[1024], stream_tail[2048];
static int completion_len, document_len, stream_tail_len;

static const char STREAM_HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    "x-request-id: req_0123456789\r\nTransfer-Encoding: chunked\r\n\r\n";

#define CHUNK_FIELDS                                                                                              \
    "\"id\":\"chatcmpl-BxYz0123456789abcdefABCDEF\",\"object\":\"chat.completion.chunk\",\"created\":1760000000," \
    "\"model\":\"mock-model\""

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

// ---- the heap of streams ----

static void heap_put(int index, int fd) {
    heap[index] = fd;
    connections[fd]->heap_index = index;
}

static void heap_rise(int index) {
    int fd = heap[index];
    while (index > 0) {
        int parent = (index - 1) / 2;
        if (connections[heap[parent]]->next_ns <= connections[fd]->next_ns) break;
        heap_put(index, heap[parent]);
        index = parent;
    }
    heap_put(index, fd);
}

static void heap_sink(int index) {
    int fd = heap[index];
    for (;;) {
        int child = 2 * index + 1;
        if (child >= heap_size) break;
        if (child + 1 < heap_size && connections[heap[child + 1]]->next_ns < connections[heap[child]]->next_ns) child++;
        if (connections[heap[child]]->next_ns >= connections[fd]->next_ns) break;
        heap_put(index, heap[child]);
        index = child;
    }
    heap_put(index, fd);
}

static void heap_add(int fd) {
    heap_put(heap_size, fd);
    heap_rise(heap_size++);
}

static void heap_remove(int fd) {
    int index = connections[fd]->heap_index;
    if (index < 0) return;
    heap_size--;
    if (index != heap_size) {
        int last = heap[heap_size];
        heap_put(index, last);
        heap_rise(index);
        heap_sink(connections[last]->heap_index);
    }
    connections[fd]->heap_index = -1;
}

// ---- writing ----

static void watch(int fd, int writable) {
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event);
    connections[fd]->wants_write = writable;
}

static void drop(int fd) {
    Connection* c = connections[fd];
    heap_remove(fd);
    close(fd);
    free(c->in);
    free(c->out);
    free(c);
    connections[fd] = NULL;
}

// Sends what the socket takes and keeps the rest; -1 when the connection is gone (and dropped).
static int write_or_keep(int fd, const char* data, int len) {
    Connection* c = connections[fd];
    if (c->out_len == c->out_pos) {
        ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
        if (sent == len) return 0;
        if (sent < 0 && errno != EAGAIN) {
            drop(fd);
            return -1;
        }
        if (sent > 0) {
            data += sent;
            len -= sent;
        }
        c->out_len = c->out_pos = 0;
    }
    if (c->out_len + len > c->out_cap) {
        c->out_cap = (c->out_len + len) * 2;
        c->out = realloc(c->out, c->out_cap);
    }
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
    if (!c->wants_write) watch(fd, 1);
    return 0;
}

static void write_kept(int fd) {
    Connection* c = connections[fd];
    ssize_t sent = send(fd, c->out + c->out_pos, c->out_len - c->out_pos, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        drop(fd);
        return;
    }
    if (sent > 0) c->out_pos += sent;
    if (c->out_pos == c->out_len) {
        c->out_pos = c->out_len = 0;
        watch(fd, 0);
    }
}

// ---- streams ----

static void stamp_with(char* digits, uint64_t ns) {
    for (int i = STAMP_LEN - 1; i >= 0; i--, ns >>= 4) digits[i] = "0123456789abcdef"[ns & 15];
}

static int write_event(int fd, Template* event) {
    stamp_with(event->stamp, now_ns());
    connections[fd]->events_left--;
    return write_or_keep(fd, event->bytes, event->len);
}

static void begin_stream(int fd) {
    Connection* c = connections[fd];
    c->streaming = 1;
    c->next_ns = now_ns() + c->pace_ns;
    if (write_event(fd, &first_event) == 0) heap_add(fd);
}

static void serve(int fd);

static void advance_stream(int fd) {
    Connection* c = connections[fd];
    if (c->events_left > 0) {
        c->next_ns += c->pace_ns;  // from the schedule, not from now: a late write does not slow the stream
        heap_sink(c->heap_index);
        write_event(fd, &next_event);
        return;
    }
    heap_remove(fd);
    c->streaming = 0;
    if (write_or_keep(fd, stream_tail, stream_tail_len) == 0) serve(fd);  // a pipelined request may be waiting
}

// ---- requests ----

static void parse_head(Connection* c, int head_len) {
    c->head_len = head_len;
    c->content_len = 0;
    char saved = c->in[head_len - 1];
    c->in[head_len - 1] = 0;
    for (char* line = c->in; (line = strchr(line, '\n'));) {
        line++;
        if (!strncasecmp(line, "content-length:", 15)) c->content_len = atoi(line + 15);
        if (!strncasecmp(line, "transfer-encoding: chunked", 26)) c->content_len = CHUNKED;
    }
    c->in[head_len - 1] = saved;
}

// The length of the whole request at the start of the buffer, or 0 while it is incomplete.
static int request_len(int fd) {
    Connection* c = connections[fd];
    if (!c->head_len) {
        char* end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
        if (!end) return 0;
        parse_head(c, end - c->in + 4);
    }
    if (c->content_len != CHUNKED) {
        int len = c->head_len + c->content_len;
        return c->in_len >= len ? len : 0;
    }
    char* end = memmem(c->in + c->head_len - 2, c->in_len - c->head_len + 2, "\r\n0\r\n\r\n", 7);
    return end ? end - c->in + 7 : 0;
}

static const char* find_field(const char* body, int len, const char* name) {
    int window = len < FIELD_WINDOW ? len : FIELD_WINDOW;
    int name_len = strlen(name);
    const char* found = memmem(body, window, name, name_len);
    if (!found) found = memmem(body + len - window, window, name, name_len);
    return found ? found + name_len : NULL;
}

static int asks_for_stream(const char* body, int len) {
    const char* value = find_field(body, len, "\"stream\":");
    if (!value) return 0;
    while (*value == ' ') value++;
    return *value == 't';
}

static void read_stream_fields(Connection* c, const char* body, int len) {
    const char* max_tokens = find_field(body, len, "\"max_tokens\":");
    const char* pace_us = find_field(body, len, "pace_us=");
    c->events_left = max_tokens ? atoi(max_tokens) : DEFAULT_EVENTS;
    c->pace_ns = pace_us ? 1000ull * strtoull(pace_us, NULL, 10) : PACE_NS;
}

// Answers every complete request in the buffer, until one begins a stream.
static void serve(int fd) {
    Connection* c;
    while ((c = connections[fd]) && !c->streaming) {
        int len = c->in_len ? request_len(fd) : 0;
        if (!len) {
            if (!c->head_len && c->in_len > MAX_HEAD_BYTES) drop(fd);
            return;
        }
        const char* body = c->in + c->head_len;
        int body_len = len - c->head_len;
        int is_get = !memcmp(c->in, "GET", 3) || !memcmp(c->in, "HEAD", 4);
        int stream = !is_get && asks_for_stream(body, body_len);
        if (stream) read_stream_fields(c, body, body_len);
        memmove(c->in, c->in + len, c->in_len - len);
        c->in_len -= len;
        c->in[c->in_len] = 0;
        c->head_len = 0;
        if (stream)
            begin_stream(fd);
        else if (write_or_keep(fd, is_get ? document : completion, is_get ? document_len : completion_len) < 0)
            return;
    }
}

static void receive(int fd) {
    static char bytes[262144];
    Connection* c = connections[fd];
    ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(fd);
        return;
    }
    if (c->in_len + got + 1 > c->in_cap) {
        c->in_cap = (c->in_len + got + 1) * 2;
        c->in = realloc(c->in, c->in_cap);
    }
    memcpy(c->in + c->in_len, bytes, got);
    c->in_len += got;
    c->in[c->in_len] = 0;
    serve(fd);
}

// ---- the server ----

static void compose_event(Template* event, const char* head, const char* role) {
    char body[512];
    int len = snprintf(body, sizeof body,
                       "data: {" CHUNK_FIELDS
                       ",\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\" tok@%0*d\"},"
                       "\"logprobs\":null,\"finish_reason\":null}]}\n\n",
                       role, STAMP_LEN, 0);
    event->len = snprintf(event->bytes, sizeof event->bytes, "%s%x\r\n%s\r\n", head, len, body);
    event->stamp = strstr(event->bytes, "tok@") + 4;
}

static void compose_answers(void) {
    compose_event(&first_event, STREAM_HEAD, "\"role\":\"assistant\",");
    compose_event(&next_event, "", "");

    static const char sentence[] = "The quick brown fox jumps over the lazy dog. ";
    char text[900] = "", body[4096];
    while (strlen(text) < 640) strcat(text, sentence);
    int len = snprintf(
        body, sizeof body,
        "{\"id\":\"chatcmpl-BxYz0123456789abcdefABCDEF\",\"object\":\"chat.completion\",\"created\":1760000000,"
        "\"model\":\"mock-model\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},"
        "\"logprobs\":null,\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":140,\"total_tokens\":340}}",
        text);
    completion_len = snprintf(completion, sizeof completion,
                              "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_0123456789\r\n"
                              "Content-Length: %d\r\n\r\n%s",
                              len, body);

    // The fields that the routers' worker discovery asks for, beside OpenAI's model list.
    len = snprintf(body, sizeof body,
                   "{\"object\":\"list\",\"data\":[{\"id\":\"mock-model\",\"object\":\"model\",\"owned_by\":\"mock\","
                   "\"max_model_len\":32768}],\"status\":\"ok\",\"model_path\":\"mock-model\","
                   "\"served_model_name\":\"mock-model\",\"is_generation\":true}");
    document_len =
        snprintf(document, sizeof document,
                 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len, body);

    len = snprintf(body, sizeof body,
                   "data: {" CHUNK_FIELDS
                   ",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n"
                   "data: {" CHUNK_FIELDS
                   ",\"choices\":[],"
                   "\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":100,\"total_tokens\":300}}\n\n"
                   "data: [DONE]\n\n");
    stream_tail_len = snprintf(stream_tail, sizeof stream_tail, "%x\r\n%s\r\n0\r\n\r\n", len, body);
}

static int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr*)&address, sizeof address) < 0 || listen(listener, 8192) < 0) {
        perror("mock_upstream: bind");
        exit(1);
    }
    return listener;
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_FDS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[fd] = calloc(1, sizeof(Connection));
        connections[fd]->heap_index = -1;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static int wait_ms(void) {
    if (!heap_size) return -1;
    uint64_t now = now_ns(), next = connections[heap[0]]->next_ns;
    return next > now + SPIN_NS ? (int)((next - now) / 1000000) - 1 : 0;
}

int main(int argc, char** argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: mock_upstream PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    compose_answers();
    int listener = listen_on(atoi(argv[1]));
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[MAX_EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, MAX_EVENTS, wait_ms());
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(listener);
                continue;
            }
            if (connections[fd] && events[i].events & EPOLLOUT) write_kept(fd);
            if (connections[fd] && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(fd);
        }
        uint64_t now = now_ns();
        for (int n = 0; n < TICKS_PER_TURN && heap_size && connections[heap[0]]->next_ns <= now; n++)
            advance_stream(heap[0]);
    }
}
