"""An application in Python's own interface, WSGI."""

import hashlib


def application(environ, start_response):
    body = environ["wsgi.input"].read()
    status = "404 Not Found" if environ["PATH_INFO"] == "/missing" else "200 OK"
    fields = [("Content-Type", "text/plain"), ("X-Path", environ["PATH_INFO"])]
    if environ["PATH_INFO"] == "/old":
        status, fields = "302 Found", fields + [("Location", "/new")]
    start_response(status, fields)
    names = ["REQUEST_METHOD", "REQUEST_URI", "QUERY_STRING", "SCRIPT_NAME", "PATH_INFO",
             "CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_ACCEPT", "SERVER_PROTOCOL"]
    lines = [f"{name}={environ.get(name, '')}" for name in names]
    lines.append("body=" + hashlib.md5(body).hexdigest())
    yield "\n".join(lines).encode() + b"\n"
    if environ["PATH_INFO"] == "/long":
        for _ in range(64):
            yield b"0123456789abcdef" * 1024
