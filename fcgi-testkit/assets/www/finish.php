<?php
// Goes on after its answer, as a script does that sends mails or warms a cache.
header('Content-Type: text/plain');
echo "finished\n";
fastcgi_finish_request();
if (isset($_GET['url'])) {
    file_get_contents($_GET['url']);
}
$gate = __DIR__ . '/' . basename($_GET['gate']);
for ($i = 0; $i < 30000 && !file_exists($gate); $i++) {
    clearstatcache();
    usleep(10000);
}
