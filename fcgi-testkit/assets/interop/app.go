// The routes that every application has in the interop tests: `app SOCKET`.
package main

import (
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

func main() {
	listener, err := net.Listen("unix", os.Args[1])
	if err == nil {
		err = fcgi.Serve(listener, http.HandlerFunc(answer))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	switch path.Base(r.URL.Path) {
	case "echo":
		hash := crc32.NewIEEE()
		length, err := io.Copy(hash, r.Body)
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		fmt.Fprintf(w, "method=%s\nquery=%s\nlength=%d\ncrc32=%08x\nbig=%d\n",
			r.Method, r.URL.RawQuery, length, hash.Sum32(), len(r.Header.Get("X-Big")))
	case "download":
		w.Header().Set("Content-Type", "application/octet-stream")
		block := make([]byte, 256*251)
		for i := range block {
			block[i] = byte(i % 251)
		}
		left, _ := strconv.Atoi(r.URL.Query().Get("n"))
		for left > 0 {
			if left < len(block) {
				block = block[:left]
			}
			n, err := w.Write(block)
			if err != nil {
				return
			}
			left -= n
		}
	case "slow":
		gate := r.URL.Query().Get("gate")
		for piece := 1; piece <= 5; piece++ {
			fmt.Fprintf(w, "piece %d\n", piece)
			w.(http.Flusher).Flush()
			if piece < 5 && !opens(fmt.Sprintf("%s.%d", gate, piece)) {
				return
			}
		}
	case "redirect":
		w.Header().Set("Location", "http://www.example.org/elsewhere")
		w.WriteHeader(302)
	case "cookies":
		w.Header().Add("Set-Cookie", "a=1; Path=/")
		w.Header().Add("Set-Cookie", "b=2; Path=/")
		io.WriteString(w, "cookies\n")
	case "bigheaders":
		w.Header().Set("X-Big", strings.Repeat("x", 7000))
		for i := 0; i < 40; i++ {
			w.Header().Set(fmt.Sprintf("X-Field-%d", i), fmt.Sprintf("value %d", i))
		}
		io.WriteString(w, "big headers\n")
	default:
		w.WriteHeader(404)
		io.WriteString(w, "no such page\n")
	}
}

// Waits for the file that the test makes once it has read a piece.
func opens(gate string) bool {
	for waited := 0; waited < 6000; waited++ {
		if _, err := os.Stat(gate); err == nil {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}
