/* The libfcgi server of the `hello` run: hello SOCKET.
   Compiled at run time: cc -O2 -o hello hello.c -lfcgi */
#include <fcgiapp.h>

int main(int argc, char **argv) {
    FCGX_Request request;
    int listener;

    if (argc != 2 || FCGX_Init() != 0) return 2;
    listener = FCGX_OpenSocket(argv[1], 128);
    if (listener < 0 || FCGX_InitRequest(&request, listener, 0) != 0) return 1;
    while (FCGX_Accept_r(&request) >= 0) {
        FCGX_PutS("Content-Type: text/plain\r\n\r\nHello, world\n", request.out);
        FCGX_Finish_r(&request);
    }
    return 0;
}
