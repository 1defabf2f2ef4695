<?php
header('Content-Type: application/octet-stream');
readfile('php://input');
