# Holds the connection of forwarded ports until the client closes it, or has died.
#
# ssh would continue while a forwarded connection is open. Ending the server's process ends the connection.
printf 'open\n'
while read -r _; do :; done
# A process with another name may be a server that all connections share: do not end it.
primepods_name=sshd
read -r primepods_name 2>/dev/null <"/proc/$PPID/comm" || :
case $primepods_name in sshd* | dropbear* | python*) if [ "$PPID" -gt 1 ]; then kill "$PPID"; fi ;; esac
