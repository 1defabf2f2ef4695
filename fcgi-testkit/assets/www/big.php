<?php // ?n=BYTES of the letter x.
header('Content-Type: application/octet-stream');
$chunk = str_repeat('x', 65536);
for ($left = (int)($_GET['n'] ?? 1000000); $left > 0; $left -= 65536) {
    echo substr($chunk, 0, min($left, 65536));
}
