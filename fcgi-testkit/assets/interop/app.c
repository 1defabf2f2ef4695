/* The routes that every application has in the interop tests: `app SOCKET WORKERS`, on libfcgi,
 * with one process for each worker. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>
#include <fcgiapp.h>

static FCGX_Request request;

static const char *param(const char *name)
{
    const char *value = FCGX_GetParam(name, request.envp);
    return value ? value : "";
}

static const char *query(const char *name)
{
    const char *at = strstr(param("QUERY_STRING"), name);
    return at ? at + strlen(name) : "";
}

static uint32_t crc32(uint32_t crc, const unsigned char *bytes, int n)
{
    static uint32_t table[256];
    int i, bit;

    if (!table[1])
        for (i = 0; i < 256; i++) {
            uint32_t value = i;
            for (bit = 0; bit < 8; bit++)
                value = value & 1 ? 0xEDB88320u ^ (value >> 1) : value >> 1;
            table[i] = value;
        }
    for (i = 0; i < n; i++)
        crc = table[(crc ^ bytes[i]) & 255] ^ (crc >> 8);
    return crc;
}

static void echo(void)
{
    static char buffer[65536];
    uint32_t crc = 0xFFFFFFFFu;
    long long length = 0;
    int n;

    while ((n = FCGX_GetStr(buffer, sizeof buffer, request.in)) > 0) {
        crc = crc32(crc, (unsigned char *)buffer, n);
        length += n;
    }
    FCGX_FPrintF(request.out, "Content-Type: text/plain\r\n\r\nmethod=%s\nquery=%s\n",
                 param("REQUEST_METHOD"), param("QUERY_STRING"));
    snprintf(buffer, sizeof buffer, "length=%lld\ncrc32=%08x\nbig=%zu\n", length, crc ^ 0xFFFFFFFFu,
             strlen(param("HTTP_X_BIG")));
    FCGX_PutS(buffer, request.out);
}

static void download(void)
{
    static char block[256 * 251];
    long long left = atoll(query("n="));
    size_t i;

    for (i = 0; i < sizeof block; i++)
        block[i] = i % 251;
    FCGX_PutS("Content-Type: application/octet-stream\r\n\r\n", request.out);
    for (; left > 0; left -= sizeof block)
        if (FCGX_PutStr(block, left < (long long)sizeof block ? left : (int)sizeof block,
                        request.out) < 0)
            return;
}

/* Waits for the file that the test makes once it has read a piece. */
static int opens(int piece)
{
    char gate[512];
    struct stat file;
    int waited;

    snprintf(gate, sizeof gate, "%s.%d", query("gate="), piece);
    for (waited = 0; waited < 6000; waited++) {
        if (stat(gate, &file) == 0)
            return 1;
        usleep(5000);
    }
    return 0;
}

static void slow(void)
{
    int piece;

    FCGX_PutS("Content-Type: text/plain\r\n\r\n", request.out);
    for (piece = 1; piece <= 5; piece++) {
        FCGX_FPrintF(request.out, "piece %d\n", piece);
        if (FCGX_FFlush(request.out) < 0 || (piece < 5 && !opens(piece)))
            return;
    }
}

static void big_headers(void)
{
    int i;

    FCGX_PutS("Content-Type: text/plain\r\nX-Big: ", request.out);
    for (i = 0; i < 7000; i++)
        FCGX_PutChar('x', request.out);
    for (i = 0; i < 40; i++)
        FCGX_FPrintF(request.out, "\r\nX-Field-%d: value %d", i, i);
    FCGX_PutS("\r\n\r\nbig headers\n", request.out);
}

static void answer(void)
{
    char path[1024];
    const char *route;

    snprintf(path, sizeof path, "%s", param("REQUEST_URI"));
    path[strcspn(path, "?")] = 0;
    route = strrchr(path, '/');
    if (!route)
        route = path;
    if (!strcmp(route, "/echo"))
        echo();
    else if (!strcmp(route, "/download"))
        download();
    else if (!strcmp(route, "/slow"))
        slow();
    else if (!strcmp(route, "/bigheaders"))
        big_headers();
    else if (!strcmp(route, "/redirect"))
        FCGX_PutS("Status: 302 Found\r\nLocation: http://www.example.org/elsewhere\r\n\r\n",
                  request.out);
    else if (!strcmp(route, "/cookies"))
        FCGX_PutS("Content-Type: text/plain\r\nSet-Cookie: a=1; Path=/\r\n"
                  "Set-Cookie: b=2; Path=/\r\n\r\ncookies\n", request.out);
    else
        FCGX_PutS("Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno such page\n",
                  request.out);
}

int main(int argc, char **argv)
{
    int listener, workers;

    if (argc != 3 || FCGX_Init() != 0 || (listener = FCGX_OpenSocket(argv[1], 128)) < 0) {
        fputs("usage: app SOCKET WORKERS\n", stderr);
        return 2;
    }
    /* The first process serves too; the others end with it. */
    for (workers = atoi(argv[2]); workers > 1; workers--)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            break;
        }
    /* A client that leaves is no reason to end. */
    signal(SIGPIPE, SIG_IGN);
    if (FCGX_InitRequest(&request, listener, 0) != 0)
        return 1;
    while (FCGX_Accept_r(&request) >= 0) {
        answer();
        FCGX_Finish_r(&request);
    }
    return 1;
}
