<?php // error_log goes to FastCGI's STDERR.
http_response_code(418);
error_log('logged to STDERR');
echo "teapot\n";
