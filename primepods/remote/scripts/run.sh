# Runs a command in its own process group, and kills that group when the connection ends.
#
# $1 is the mark, $2 the folder, $3 the command, $4 the number of bytes of its input, or nothing, and $5 the
# script command.sh. The others are environment variables, NAME=VALUE.
#
# File descriptor 3 is the script's own input. The command never reads it, since its end shows the end of the
# connection, even if the client was killed. The command's input is received before the command starts, in a
# file without a name: 4 writes that file, 5 counts its bytes, and 6 is the command's input.
exec 3<&0 </dev/null
primepods_mark=$1 primepods_folder=$2 primepods_command=$3 primepods_size=$4 primepods_start=$5
shift 5

primepods_receive() {
  [ -n "$primepods_size" ] || { exec 6</dev/null; return; }
  # The file is in a new folder: other users of the pod know its name from the list of processes, and could
  # have made a link or a pipe of that name.
  for primepods_file in "${TMPDIR:-/tmp}/$primepods_mark" "./.$primepods_mark"; do
    # In a subshell, since a failed redirection ends the shell.
    if (umask 077; mkdir "$primepods_file" && : >"$primepods_file/in") 2>/dev/null; then
      # shellcheck disable=SC2094 # read after it is written
      exec 4>"$primepods_file/in" 5<"$primepods_file/in" 6<"$primepods_file/in"
      rm -rf "$primepods_file"
      head -c "$primepods_size" <&3 >&4
      primepods_received=$(wc -c <&5)
      exec 4>&- 5<&-
      [ "$primepods_received" -eq "$primepods_size" ]
      return
    fi
    rmdir "$primepods_file" 2>/dev/null  # the disk may have had space for the folder only
  done
  return 1
}

primepods_run() {
  # A minus sign, with which `kill` signals a process group; empty on pods without `setsid`, where it signals
  # only the child.
  primepods_group=
  if command -v setsid >/dev/null 2>&1; then primepods_group=-; fi
  (
    exec 3<&- <&6 6<&-
    export primepods_names=
    for primepods_line; do
      export "primepods_env_$primepods_line"
      primepods_names="$primepods_names ${primepods_line%%=*}"
    done
    # Variables of the script must not be exported, by `set -a` or because the image has exported their names.
    set -- sh -c "$primepods_start" sh "$(command -v sh)" "$primepods_command"
    if [ -n "$primepods_group" ]; then set -- setsid "$@"; fi
    unset primepods_mark primepods_folder primepods_command primepods_size primepods_start primepods_file \
      primepods_received primepods_group primepods_code primepods_newline primepods_script primepods_lines primepods_line
    exec "$@"
  ) &
  primepods_child=$!
  exec 6<&-
  (
    # shellcheck disable=SC2034 # only the end matters
    while read -r primepods_line <&3; do :; done
    # When the child has ended, `primepods_run` sends TERM to this process: ignore it, since other processes
    # of the group may still run.
    trap '' TERM
    kill -TERM "$primepods_group$primepods_child"
    primepods_seconds=0
    while [ "$primepods_seconds" -lt 10 ] && kill -0 "$primepods_group$primepods_child"; do
      sleep 1
      primepods_seconds=$((primepods_seconds+1))
    done
    kill -KILL "$primepods_group$primepods_child"
  ) >/dev/null 2>&1 &
  primepods_watcher=$!
  exec 3<&-
  wait "$primepods_child"
  primepods_code=$?
  kill "$primepods_watcher" 2>/dev/null
}

primepods_code=1
if cd "$primepods_folder"; then
  if primepods_receive; then
    primepods_run "$@"
  else
    printf 'the input of the command was not received\n' >&2
  fi
fi
printf '%s exit %s\n' "$primepods_mark" "$primepods_code"
printf '%s exit %s\n' "$primepods_mark" "$primepods_code" >&2
exit "$primepods_code"
