// receiver: many WebSocket clients in one thread, to give servers of any kind the same work.
//
//   receiver PORT TARGETS GREETINGS WINDOW MARK [deflate]
//
// Opens one socket to 127.0.0.1:PORT for each line of the file TARGETS:
//
//   path<TAB>text frame<TAB>text frame...
//
// The frames are sent after the upgrade; "~" in their place waits for one frame from the server, and the two
// characters \r or \n in a frame stand for the control character. A socket has joined when all its frames are sent and GREETINGS frames have come. At
// most WINDOW sockets are on their way there at once. With "deflate", permessage-deflate is offered
// (compressed messages are counted, not inflated).
//
// Each occurrence of MARK in what arrives is one message; the digits behind it are the time it was sent at,
// nanoseconds of CLOCK_REALTIME. A compressed frame is one message.
//
// Says {"event":"joined",...} once all have joined or failed, then obeys lines on standard input:
//
//   reset               forget what has been counted         -> {"event":"reset"}
//   report COUNT IDLE   wait for COUNT messages, or until nothing has come for IDLE ms -> {"event":"report",...}
//
// and at the end of its input sends close frames and leaves.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { SOURCES = 8, EVENTS = 512, READ_BYTES = 1 << 18, CODES = 5000, STDIN = -1 };
enum state { CONNECTING, UPGRADING, JOINING, JOINED, CLOSED };

typedef struct {
  int fd;
  enum state state;
  const char *path, *unsent;  // what is left of the target's frames
  char *rest;                 // the beginning of a frame whose end has not come yet
  size_t rest_size;
  uint64_t frames, messages;
} Client;

static struct {
  uint64_t messages, frames, bytes, pings, first, last;
  int closed, codes[CODES];
} counts;

static Client *clients;
static int client_count, next_client, joined, failed;
static uint64_t *latencies;
static size_t latency_count, latency_room;

static int epoll, port, greetings, window;
static const char *mark;
static bool deflate, all_joined, reporting;
static uint64_t started, report_count, report_idle;

static uint64_t now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void *need(void *memory) {
  if (!memory) { perror("memory"); exit(1); }
  return memory;
}

static void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  fflush(stdout);
}

// -- sending ----------------------------------------------------------------------------------

static void send_all(int fd, const char *data, size_t size) {
  while (size) {
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return;  // reading will tell
    if (sent < 0) usleep(100);
    else { data += sent; size -= (size_t)sent; }
  }
}

// A client's frame, masked with zeros (RFC 6455 section 5.3).
static void send_frame(int fd, int opcode, const char *payload, size_t size) {
  char frame[8 + size], *at = frame;
  if (size > 65535) return;
  *at++ = (char)(0x80 | opcode);
  if (size < 126) *at++ = (char)(0x80 | size);
  else { *at++ = (char)(0x80 | 126); *at++ = (char)(size >> 8); *at++ = (char)size; }
  memset(at, 0, 4);
  memcpy(at + 4, payload, size);
  send_all(fd, frame, (size_t)(at - frame) + 4 + size);
}

static void send_target_frame(int fd, const char *text, size_t size) {
  char frame[size + 1];
  size_t length = 0;
  for (size_t i = 0; i < size; i++) {
    bool escaped = text[i] == '\\' && i + 1 < size && (text[i + 1] == 'r' || text[i + 1] == 'n');
    frame[length++] = !escaped ? text[i] : text[++i] == 'r' ? '\r' : '\n';
  }
  send_frame(fd, TEXT, frame, length);
}

// Sends the target's frames up to the next one to wait for.
static void send_target_frames(Client *client) {
  while (*client->unsent) {
    const char *text = client->unsent;
    size_t size = strcspn(text, "\t");
    client->unsent += size + (text[size] == '\t');
    if (size == 1 && *text == '~') return;
    send_target_frame(client->fd, text, size);
  }
}

// -- joining ----------------------------------------------------------------------------------

static void end(Client *client) {
  if (client->state == CLOSED) return;
  if (client->state == JOINED) counts.closed++;
  else failed++;
  client->state = CLOSED;
  close(client->fd);
  free(client->rest);
  client->rest = NULL;
}

static void note_joined(Client *client) {
  if (client->state != JOINING || *client->unsent || client->frames < (uint64_t)greetings) return;
  client->state = JOINED;
  joined++;
}

static void connect_one(Client *client) {
  int one = 1, number = (int)(client - clients);
  client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (client->fd < 0) { perror("socket"); exit(1); }
  // A source address has some 28,000 ports, and those of earlier runs are not free at once.
  struct sockaddr_in source = {.sin_family = AF_INET}, server = source;
  source.sin_addr.s_addr = htonl((uint32_t)(127 << 24 | (1 + number % SOURCES) << 8 | (1 + getpid() % 250)));
  setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  bind(client->fd, (struct sockaddr *)&source, sizeof source);
  server.sin_port = htons((uint16_t)port);
  server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(client->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) { end(client); return; }
  struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (uint32_t)number};
  epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event);
}

static void connect_more(void) {
  while (next_client < client_count && next_client - joined - failed < window) connect_one(clients + next_client++);
}

static void ask_for_upgrade(Client *client) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error) { end(client); return; }
  char request[8192];
  int length = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                        client->path, port, deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
  send_all(client->fd, request, (size_t)length);
  client->state = UPGRADING;
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)(client - clients)};
  epoll_ctl(epoll, EPOLL_CTL_MOD, client->fd, &event);
}

// Returns how many bytes the answer to the upgrade takes, 0 while it is not complete.
static size_t take_upgrade(Client *client, const char *data, size_t size) {
  const char *head_end = memmem(data, size, "\r\n\r\n", 4);
  if (!head_end) return 0;
  if (memcmp(data, "HTTP/1.1 101", 12)) {
    if (!failed) fprintf(stderr, "refused: %.*s\n", (int)(size < 200 ? size : 200), data);
    end(client);
    return size;
  }
  client->state = JOINING;
  send_target_frames(client);
  note_joined(client);
  return (size_t)(head_end + 4 - data);
}

// -- receiving --------------------------------------------------------------------------------

static void note_latency(const char *stamp) {
  uint64_t sent = strtoull(stamp, NULL, 10), received = now(CLOCK_REALTIME);
  if (!sent || sent > received) return;
  if (latency_count == latency_room) {
    latency_room = latency_room ? latency_room * 2 : 1 << 16;
    latencies = need(realloc(latencies, latency_room * sizeof *latencies));
  }
  latencies[latency_count++] = received - sent;
}

static void count_messages(Client *client, const char *payload, size_t size) {
  const char *at = payload, *payload_end = payload + size;
  size_t length = strlen(mark);
  while ((at = memmem(at, (size_t)(payload_end - at), mark, length))) {
    at += length;
    client->messages++;
    counts.messages++;
    note_latency(at);
  }
}

// Socket.IO and NATS ask in messages of their own whether a client is alive.
static bool answer_peer(Client *client, const char *payload, size_t size) {
  if (size == 1 && *payload == '2') send_frame(client->fd, TEXT, "3", 1);
  else if (size == 6 && !memcmp(payload, "PING\r\n", 6)) send_frame(client->fd, TEXT, "PONG\r\n", 6);
  else return false;
  return true;
}

static void take_message(Client *client, bool compressed, const char *payload, size_t size) {
  if (answer_peer(client, payload, size)) return;
  counts.frames++;
  client->frames++;
  if (client->state == JOINING) {
    send_target_frames(client);
    note_joined(client);
  }
  if (compressed) { client->messages++; counts.messages++; }
  else count_messages(client, payload, size);
}

static void take_close(Client *client, const unsigned char *payload, size_t size) {
  int code = size < 2 ? 1005 : payload[0] << 8 | payload[1];
  if (code < CODES) counts.codes[code]++;
  end(client);
}

// Returns how many bytes the frame at the beginning of the data takes, 0 while it is not complete.
static size_t take_frame(Client *client, const char *data, size_t available) {
  const unsigned char *head = (const unsigned char *)data;
  if (available < 2) return 0;
  size_t head_size = 2, size = head[1] & 0x7f;
  int length_bytes = size == 126 ? 2 : size == 127 ? 8 : 0;
  head_size += (size_t)length_bytes;
  if (available < head_size) return 0;
  if (length_bytes) size = 0;
  for (int i = 0; i < length_bytes; i++) size = size << 8 | head[2 + i];
  if (available < head_size + size) return 0;
  const char *payload = data + head_size;
  switch (head[0] & 0x0f) {
    case PING: counts.pings++; send_frame(client->fd, PONG, payload, size); break;
    case CLOSE: take_close(client, (const unsigned char *)payload, size); break;
    case TEXT: case BINARY: take_message(client, head[0] & 0x40, payload, size); break;
    default: break;
  }
  return head_size + size;
}

static void take(Client *client, const char *data, size_t size) {
  size_t taken = 0, step;
  while (taken < size && client->state != CLOSED) {
    step = client->state == UPGRADING ? take_upgrade(client, data + taken, size - taken)
                                      : take_frame(client, data + taken, size - taken);
    if (!step) break;
    taken += step;
  }
  char *rest = NULL;
  client->rest_size = client->state == CLOSED ? 0 : size - taken;
  if (client->rest_size) {
    rest = need(malloc(client->rest_size));
    memcpy(rest, data + taken, client->rest_size);
  }
  free(client->rest);
  client->rest = rest;
}

static void receive(Client *client) {
  static char buffer[READ_BYTES];
  ssize_t size = recv(client->fd, buffer, sizeof buffer, 0);
  if (size < 0 && errno == EAGAIN) return;
  if (size <= 0) { end(client); return; }
  counts.last = now(CLOCK_MONOTONIC);
  if (!counts.first) counts.first = counts.last;
  counts.bytes += (uint64_t)size;
  if (!client->rest) { take(client, buffer, (size_t)size); return; }
  size_t whole_size = client->rest_size + (size_t)size;
  char *whole = need(malloc(whole_size));
  memcpy(whole, client->rest, client->rest_size);
  memcpy(whole + client->rest_size, buffer, (size_t)size);
  take(client, whole, whole_size);
  free(whole);
}

// -- reporting --------------------------------------------------------------------------------

static int ascending(const void *first, const void *second) {
  uint64_t a = *(const uint64_t *)first, b = *(const uint64_t *)second;
  return (a > b) - (a < b);
}

static double latency_ms(double part) {
  return (double)latencies[(size_t)((double)(latency_count - 1) * part)] / 1e6;
}

static void report(void) {
  uint64_t fewest = UINT64_MAX, most = 0;
  for (Client *client = clients; client < clients + client_count; client++) {
    if (client->messages < fewest) fewest = client->messages;
    if (client->messages > most) most = client->messages;
  }
  say("{\"event\":\"report\",\"messages\":%" PRIu64 ",\"frames\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"pings\":%" PRIu64
      ",\"seconds\":%.6f,\"fewest\":%" PRIu64 ",\"most\":%" PRIu64 ",\"closed\":%d,\"codes\":{",
      counts.messages, counts.frames, counts.bytes, counts.pings, (double)(counts.last - counts.first) / 1e9, fewest, most, counts.closed);
  const char *comma = "";
  for (int code = 0; code < CODES; code++)
    if (counts.codes[code]) { say("%s\"%d\":%d", comma, code, counts.codes[code]); comma = ","; }
  say("}");
  if (latency_count) {
    qsort(latencies, latency_count, sizeof *latencies, ascending);
    say(",\"latency_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"p99.9\":%.3f,\"max\":%.3f}", latency_ms(0.5), latency_ms(0.99), latency_ms(0.999), latency_ms(1));
  }
  say("}\n");
}

static void reset(void) {
  memset(&counts, 0, sizeof counts);
  latency_count = 0;
  for (Client *client = clients; client < clients + client_count; client++) client->messages = client->frames = 0;
}

static void leave(void) {
  for (Client *client = clients; client < clients + client_count; client++)
    if (client->state == JOINED) { send_frame(client->fd, CLOSE, "\x03\xe8", 2); end(client); }
  exit(0);
}

static void obey(void) {
  static char input[4096];
  static size_t size;
  ssize_t got = read(STDIN_FILENO, input + size, sizeof input - 1 - size);
  if (got <= 0) leave();
  size += (size_t)got;
  input[size] = 0;
  for (char *line_end; (line_end = strchr(input, '\n'));) {
    *line_end = 0;
    if (!strcmp(input, "reset")) { reset(); say("{\"event\":\"reset\"}\n"); }
    else if (sscanf(input, "report %" SCNu64 " %" SCNu64, &report_count, &report_idle) == 2) {
      reporting = true;
      if (!counts.last) counts.last = counts.first = now(CLOCK_MONOTONIC);
    }
    size -= (size_t)(line_end + 1 - input);
    memmove(input, line_end + 1, size + 1);
  }
}

static void read_targets(const char *name) {
  FILE *file = fopen(name, "r");
  if (!file) { perror(name); exit(1); }
  char *line = NULL;
  size_t room = 0;
  for (ssize_t size; (size = getline(&line, &room, file)) > 0;) {
    if (line[size - 1] == '\n') line[size - 1] = 0;
    char *text = need(strdup(line)), *tab = strchr(text, '\t');
    if (tab) *tab = 0;
    clients = need(realloc(clients, (size_t)(client_count + 1) * sizeof *clients));
    clients[client_count++] = (Client){.path = text, .unsent = tab ? tab + 1 : ""};
  }
  fclose(file);
}

static void check_progress(void) {
  uint64_t time = now(CLOCK_MONOTONIC);
  if (!all_joined && joined + failed == client_count) {
    all_joined = true;
    say("{\"event\":\"joined\",\"sockets\":%d,\"failed\":%d,\"seconds\":%.6f}\n", joined, failed, (double)(time - started) / 1e9);
  }
  if (reporting && (counts.messages >= report_count || time - counts.last > report_idle * 1000000u)) {
    reporting = false;
    report();
  }
}

int main(int count, char **arguments) {
  if (count < 6) { fprintf(stderr, "receiver PORT TARGETS GREETINGS WINDOW MARK [deflate]\n"); return 2; }
  port = atoi(arguments[1]);
  read_targets(arguments[2]);
  greetings = atoi(arguments[3]);
  window = atoi(arguments[4]);
  mark = arguments[5];
  deflate = count > 6;
  epoll = epoll_create1(0);
  struct epoll_event events[EVENTS], input = {.events = EPOLLIN, .data.u32 = (uint32_t)STDIN};
  epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input);
  started = now(CLOCK_MONOTONIC);
  for (;;) {
    connect_more();
    int ready = epoll_wait(epoll, events, EVENTS, 20);
    for (int i = 0; i < ready; i++) {
      if (events[i].data.u32 == (uint32_t)STDIN) { obey(); continue; }
      Client *client = clients + events[i].data.u32;
      if (client->state == CONNECTING) ask_for_upgrade(client);
      else if (client->state != CLOSED) receive(client);
    }
    check_progress();
  }
}
