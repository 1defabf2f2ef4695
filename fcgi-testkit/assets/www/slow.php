<?php // Five ticks, 200 ms apart.
header('Content-Type: text/plain');
for ($i = 0; $i < 5; $i++) {
    echo "tick $i\n";
    flush();
    usleep(200000);
}
