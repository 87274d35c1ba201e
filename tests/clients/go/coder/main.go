// The client of coder/websocket, which was nhooyr.io/websocket.
//
// Usage: coder on|off ADDRESS
package main

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/coder/websocket"

	"example.org/clients/lines"
)

func main() {
	compression := websocket.CompressionDisabled
	if os.Args[1] == "on" {
		compression = websocket.CompressionContextTakeover
	}
	ctx := context.Background()
	socket, _, err := websocket.Dial(ctx, os.Args[2], &websocket.DialOptions{CompressionMode: compression})
	lines.Check(err)
	// By default a message of more than 32 KiB ends the connection.
	socket.SetReadLimit(2 << 20)
	lines.Say("open")
	told := make(chan bool)
	go func() { told <- read(ctx, socket) }()
	lines.Each(func(line []byte) error { return socket.Write(ctx, websocket.MessageText, line) })
	err = socket.Close(websocket.StatusNormalClosure, "")
	if !<-told {
		// Close itself has read the answer; it is an error if that has another code.
		lines.Check(err)
		lines.Say("close", int(websocket.StatusNormalClosure))
	}
}

// read is also what answers pings. It returns whether it has read the close and told of it.
func read(ctx context.Context, socket *websocket.Conn) bool {
	for {
		_, text, err := socket.Read(ctx)
		var closed websocket.CloseError
		if errors.As(err, &closed) {
			lines.Say("close", int(closed.Code), closed.Reason)
			return true
		}
		if errors.Is(err, net.ErrClosed) {
			return false
		}
		lines.Check(err)
		lines.Say("message", string(text))
	}
}
