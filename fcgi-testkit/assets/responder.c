/* A Responder on libfcgi: `responder SOCKET`. It answers with the request's
 * method, a line feed and STDIN; the parameter STDERR goes to STDERR, and
 * EXIT is the app status. */
#include <stdio.h>
#include <stdlib.h>
#include <fcgiapp.h>

int main(int argc, char **argv)
{
    FCGX_Request request;
    int listener;

    if (argc != 2) {
        fputs("usage: responder SOCKET\n", stderr);
        return 2;
    }
    if (FCGX_Init() != 0 || (listener = FCGX_OpenSocket(argv[1], 16)) < 0
        || FCGX_InitRequest(&request, listener, 0) != 0) {
        fprintf(stderr, "responder: can't listen on %s\n", argv[1]);
        return 1;
    }
    while (FCGX_Accept_r(&request) >= 0) {
        const char *method = FCGX_GetParam("REQUEST_METHOD", request.envp);
        const char *text = FCGX_GetParam("STDERR", request.envp);
        const char *status = FCGX_GetParam("EXIT", request.envp);
        char buffer[4096];
        int n;

        FCGX_FPrintF(request.out, "Content-Type: text/plain\r\n\r\n%s\n", method ? method : "");
        while ((n = FCGX_GetStr(buffer, sizeof buffer, request.in)) > 0)
            FCGX_PutStr(buffer, n, request.out);
        if (text)
            FCGX_PutS(text, request.err);
        FCGX_SetExitStatus(status ? atoi(status) : 0, request.out);
        FCGX_Finish_r(&request);
    }
    return 1;
}
