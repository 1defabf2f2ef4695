<?php // ?c=STATUS
header('Content-Type: text/plain');
echo "exiting\n";
exit((int)($_GET['c'] ?? 1));
