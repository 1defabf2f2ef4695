<?php // The parameters, sorted by name, then what came on STDIN.
header('Content-Type: text/plain');
ksort($_SERVER);
foreach ($_SERVER as $name => $value) {
    if (!is_array($value)) {
        echo "$name=$value\n";
    }
}
$body = file_get_contents('php://input');
echo 'BODYLEN=', strlen($body), "\n";
echo 'BODYMD5=', md5($body), "\n";
