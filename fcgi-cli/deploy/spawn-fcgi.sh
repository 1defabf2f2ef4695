# Four processes on one socket, which the web server's group may open.
spawn-fcgi -s /run/app/app.sock -M 0660 -U www-data -G www-data -u app -g app -F 4 -- /usr/local/bin/app
