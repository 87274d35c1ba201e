// Package lines is how a client program and its test talk (tests/clients/client_program.py).
package lines

import (
	"bufio"
	"fmt"
	"log"
	"os"
)

// Say writes a line.
func Say(words ...any) {
	fmt.Println(words...)
}

// Each calls send with every line of standard input.
func Each(send func(line []byte) error) {
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		Check(send(input.Bytes()))
	}
	Check(input.Err())
}

// Check ends the program with an error.
func Check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
