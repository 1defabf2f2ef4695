// Go's servers of the benchmark: hello fastcgi|http SOCKET.
// Compiled at run time: go build -o hello hello.go
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: hello fastcgi|http SOCKET")
		os.Exit(2)
	}
	listener, err := net.Listen("unix", os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", "13")
		// Every answer is compared with the first one.
		w.Header().Set("Date", "Sun, 29 Nov 2026 00:00:00 GMT")
		io.WriteString(w, "Hello, world\n")
	})
	if os.Args[1] == "http" {
		err = http.Serve(listener, handler)
	} else {
		err = fcgi.Serve(listener, handler)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
