// The client of gorilla/websocket.
//
// Usage: gorilla on|off ADDRESS
package main

import (
	"errors"
	"os"
	"time"

	"github.com/gorilla/websocket"

	"example.org/clients/lines"
)

func main() {
	dialer := websocket.Dialer{EnableCompression: os.Args[1] == "on"}
	socket, _, err := dialer.Dial(os.Args[2], nil)
	lines.Check(err)
	lines.Say("open")
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		read(socket)
	}()
	lines.Each(func(line []byte) error { return socket.WriteMessage(websocket.TextMessage, line) })
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	// An error says that the server has closed first.
	_ = socket.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(5*time.Second))
	<-closed
}

// read is also what answers pings.
func read(socket *websocket.Conn) {
	for {
		_, text, err := socket.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			lines.Say("close", closed.Code, closed.Text)
			return
		}
		lines.Check(err)
		lines.Say("message", string(text))
	}
}
