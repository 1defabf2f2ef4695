<?php
// A front controller: every path that is no file comes here.
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/old') {
    header('Location: /new', true, 301);
    exit;
}
if ($path === '/missing') {
    http_response_code(404);
}
if ($path === '/cookies') {
    setcookie('a', '1');
    setcookie('b', '2');
}
if ($path === '/empty') {
    http_response_code(204);
    exit;
}
header('Content-Type: text/plain; charset=utf-8');
header('X-Route: ' . rawurldecode($path));
$names = ['REQUEST_METHOD', 'REQUEST_URI', 'QUERY_STRING', 'SCRIPT_NAME', 'PATH_INFO', 'PHP_SELF',
    'CONTENT_TYPE', 'CONTENT_LENGTH', 'HTTP_ACCEPT', 'HTTP_X_SEVERAL', 'HTTP_PROXY', 'SERVER_PROTOCOL'];
foreach ($names as $name) {
    echo $name, '=', $_SERVER[$name] ?? '', "\n";
}
echo 'GET=', json_encode($_GET), "\n";
echo 'POST=', json_encode($_POST), "\n";
echo 'body=', md5(file_get_contents('php://input')), "\n";
if ($path === '/long') {
    echo str_repeat("0123456789abcdef", 65536);
}
