"""The routes that every application has in the interop tests: `app.py SOCKET`, on flup."""
import os
import sys
import time
import zlib
from urllib.parse import parse_qs

from flup.server.fcgi import WSGIServer

TEXT = ("Content-Type", "text/plain")


def answer(environ, start_response):
    route = environ["REQUEST_URI"].split("?")[0].rsplit("/", 1)[-1]
    query = parse_qs(environ.get("QUERY_STRING", ""))
    if route == "echo":
        crc, length = 0, 0
        left = int(environ.get("CONTENT_LENGTH") or 0)
        while left > 0:
            piece = environ["wsgi.input"].read(min(left, 65536))
            if not piece:
                break
            crc = zlib.crc32(piece, crc)
            length += len(piece)
            left -= len(piece)
        start_response("200 OK", [TEXT])
        lines = [
            ("method", environ["REQUEST_METHOD"]),
            ("query", environ.get("QUERY_STRING", "")),
            ("length", length),
            ("crc32", "%08x" % crc),
            ("big", len(environ.get("HTTP_X_BIG", ""))),
        ]
        return ["".join("%s=%s\n" % line for line in lines).encode()]
    if route == "download":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return download(int(query["n"][0]))
    if route == "slow":
        start_response("200 OK", [TEXT])
        return slow(query["gate"][0])
    if route == "redirect":
        start_response("302 Found", [TEXT, ("Location", "http://www.example.org/elsewhere")])
        return []
    if route == "cookies":
        start_response(
            "200 OK", [TEXT, ("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/")]
        )
        return [b"cookies\n"]
    if route == "bigheaders":
        fields = [("X-Field-%d" % i, "value %d" % i) for i in range(40)]
        start_response("200 OK", [TEXT, ("X-Big", "x" * 7000)] + fields)
        return [b"big headers\n"]
    start_response("404 Not Found", [TEXT])
    return [b"no such page\n"]


def download(left):
    block = bytes(range(251)) * 256
    while left > 0:
        yield block[:left]
        left -= len(block)


def slow(gate):
    for piece in range(1, 6):
        yield b"piece %d\n" % piece
        waited = 0
        while piece < 5 and not os.path.exists("%s.%d" % (gate, piece)):
            if waited > 6000:
                return
            waited += 1
            time.sleep(0.005)


WSGIServer(answer, bindAddress=sys.argv[1], umask=0).run()
