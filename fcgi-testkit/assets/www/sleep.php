<?php // ?s=SECONDS without a byte of output, which PHP needs to see an abort.
sleep((int)($_GET['s'] ?? 1));
header('Content-Type: text/plain');
echo "awake\n";
