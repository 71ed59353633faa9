# The command line that ssh runs on a pod: it reads a script from its standard input and runs it.
#
# It prints a mark before it reads, so that the client knows that nothing has run until then. `read` consumes
# no byte after the end of a line: the input of the script follows. The first line is the number of lines.
#
# These lines are joined with spaces, since the login shell may be csh, which allows no newline in quotes. So
# semicolons must separate the commands.
#
# $1 is the mark. The dot keeps $(...) from removing the newline. A watchdog sees the connection.
if [ -d .primepods/watchdog ]; then (echo $$ >".primepods/watchdog/connection-$$") 2>/dev/null; fi;
printf "%s ready\n" "$1"; printf "%s ready\n" "$1" >&2;
primepods_newline=$(printf "\n."); primepods_newline=${primepods_newline%.}; primepods_script=;
read -r primepods_lines || exit 255;
while [ "$primepods_lines" -gt 0 ]; do
IFS= read -r primepods_line || exit 255;
primepods_script="$primepods_script$primepods_line$primepods_newline";
primepods_lines=$((primepods_lines-1));
done;
eval "$primepods_script"
