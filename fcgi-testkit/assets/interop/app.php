<?php // The routes that every application has in the interop tests.
ini_set('zlib.output_compression', '0');
$route = basename(parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH));
switch ($route) {
    case 'echo':
        $hash = hash_init('crc32b');
        $length = 0;
        $stdin = fopen('php://input', 'rb');
        while (($piece = fread($stdin, 65536)) !== '' && $piece !== false) {
            hash_update($hash, $piece);
            $length += strlen($piece);
        }
        header('Content-Type: text/plain');
        printf(
            "method=%s\nquery=%s\nlength=%d\ncrc32=%s\nbig=%d\n",
            $_SERVER['REQUEST_METHOD'],
            $_SERVER['QUERY_STRING'],
            $length,
            hash_final($hash),
            strlen($_SERVER['HTTP_X_BIG'] ?? '')
        );
        break;
    case 'download':
        header('Content-Type: application/octet-stream');
        $block = '';
        for ($i = 0; $i < 251; $i++) {
            $block .= chr($i);
        }
        $block = str_repeat($block, 256);
        for ($left = (int) $_GET['n']; $left > 0; $left -= strlen($block)) {
            echo $left < strlen($block) ? substr($block, 0, $left) : $block;
        }
        break;
    case 'slow':
        header('Content-Type: text/plain');
        for ($piece = 1; $piece <= 5; $piece++) {
            echo "piece $piece\n";
            flush();
            for ($waited = 0; $piece < 5 && !file_exists("{$_GET['gate']}.$piece"); $waited++) {
                if ($waited > 6000) {
                    exit(1);
                }
                usleep(5000);
                clearstatcache();
            }
        }
        break;
    case 'redirect':
        header('Location: http://www.example.org/elsewhere', true, 302);
        break;
    case 'cookies':
        header('Content-Type: text/plain');
        header('Set-Cookie: a=1; Path=/');
        header('Set-Cookie: b=2; Path=/', false);
        echo "cookies\n";
        break;
    case 'bigheaders':
        header('Content-Type: text/plain');
        header('X-Big: ' . str_repeat('x', 7000));
        for ($i = 0; $i < 40; $i++) {
            header("X-Field-$i: value $i");
        }
        echo "big headers\n";
        break;
    default:
        http_response_code(404);
        header('Content-Type: text/plain');
        echo "no such page\n";
}
