# Holds the connection of forwarded ports until the client closes it, or has died.
#
# ssh would go on while a forwarded connection is open: so end the server's process, and with it the connection.
printf 'open\n'
while read -r primepods_line; do :; done
if [ "$PPID" -gt 1 ]; then kill "$PPID"; fi
