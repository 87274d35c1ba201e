// floor: the least a server can do for a fan-out: one send(2) of a ready-made frame for each socket.
//
//   floor PORT [one]
//
// Accepts every WebSocket upgrade on 127.0.0.1:PORT (nothing is checked: the one key of receiver.c is expected),
// and sends each line that comes on standard input to all sockets, or with "one" to the next of them in turn.
// Says "ready" when it listens.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_SOCKETS = 20000, EVENTS = 512, MESSAGE_BYTES = 65535 };

static const char UPGRADE[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static int epoll, listener, sockets[MAX_SOCKETS], socket_count, one_each, turn;

static void watch(int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void open_listener(int port) {
  int one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) { perror("listen"); exit(1); }
}

static void let_in(void) {
  int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
  if (fd < 0) return;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  watch(fd);
}

static void fan_out(const char *text, size_t size) {
  static unsigned char frame[4 + MESSAGE_BYTES];
  size_t head = size < 126 ? 2 : 4;
  frame[0] = 0x81;
  frame[1] = (unsigned char)(size < 126 ? size : 126);
  if (size >= 126) { frame[2] = (unsigned char)(size >> 8); frame[3] = (unsigned char)size; }
  memcpy(frame + head, text, size);
  if (one_each) {
    if (socket_count) (void)!send(sockets[turn++ % socket_count], frame, head + size, MSG_NOSIGNAL);
    return;
  }
  for (int i = 0; i < socket_count; i++) (void)!send(sockets[i], frame, head + size, MSG_NOSIGNAL);
}

static void take_lines(void) {
  static char input[MESSAGE_BYTES];
  static size_t size;
  ssize_t got = read(STDIN_FILENO, input + size, sizeof input - size);
  if (got <= 0) exit(0);
  size += (size_t)got;
  char *line = input, *line_end;
  while ((line_end = memchr(line, '\n', (size_t)(input + size - line)))) {
    fan_out(line, (size_t)(line_end - line));
    line = line_end + 1;
  }
  size = (size_t)(input + size - line);
  memmove(input, line, size);
}

static void drop(int fd) {
  close(fd);
  for (int i = 0; i < socket_count; i++)
    if (sockets[i] == fd) { sockets[i] = sockets[--socket_count]; return; }
}

static void hear(int fd) {
  char request[MESSAGE_BYTES];
  ssize_t size = recv(fd, request, sizeof request, 0);
  if (size <= 0) { drop(fd); return; }
  if (size < 4 || memcmp(request, "GET ", 4) || socket_count == MAX_SOCKETS) return;
  (void)!send(fd, UPGRADE, sizeof UPGRADE - 1, MSG_NOSIGNAL);
  sockets[socket_count++] = fd;
}

int main(int count, char **arguments) {
  if (count < 2) { fprintf(stderr, "floor PORT [one]\n"); return 2; }
  one_each = count > 2 && !strcmp(arguments[2], "one");
  epoll = epoll_create1(0);
  open_listener(atoi(arguments[1]));
  watch(listener);
  watch(STDIN_FILENO);
  puts("ready");
  fflush(stdout);
  struct epoll_event events[EVENTS];
  for (;;) {
    int ready = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < ready; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) let_in();
      else if (fd == STDIN_FILENO) take_lines();
      else hear(fd);
    }
  }
}
