# Jobs on a pod: commands that outlive the connection that started them.
#
# A job is a folder in .primepods/jobs of the directory in which a login starts:
#   token           random text of its start
#   command         the command line
#   started         pid of its supervisor, and time in seconds since 1970
#   group           the command's process group for `kill`; without `setsid`, only its process
#   stdout, stderr  its output
#   stopping        pid of the last `stop`
#   exit-CODE-TIME  appears at the end of the command's shell, by a rename, which also works on a full disk
#
# shellcheck disable=SC2329 # the action's function is called by its name
#
# $1 is the mark, $2 the action, and $3 the name of the job, if there is one. The others are the action's.
primepods_mark=$1 primepods_action=$2 primepods_name=$3
shift 3

primepods_say() { printf '%s\n' "$1" >&2; }

primepods_nap() { sleep "$1" 2>/dev/null || sleep 1; }

# The processes that the command starts inherit the token in their environment, even in another group. That of
# the supervisor and its programs has it with a prefix: `stop` must not kill what records the exit code.
#
# $1 is the pid, and $2 `-x` to find the command's processes only.
primepods_has_token() {
  # shellcheck disable=SC2086
  tr '\0' '\n' <"/proc/$1/environ" | grep -qF $2 "PRIMEPODS_JOB=$primepods_token"
} 2>/dev/null

# Reads the files of the job $primepods_name. A pod that was restarted may have given the pid to another process.
primepods_load() {
  primepods_job=.primepods/jobs/$primepods_name primepods_alive=
  { read -r primepods_token <"$primepods_job/token" && read -r primepods_pid primepods_time <"$primepods_job/started"; } 2>/dev/null || return
  if primepods_is_alive && { [ ! -d /proc/self ] || primepods_has_token "$primepods_pid" ""; }; then primepods_alive=1; fi
}

primepods_is_alive() { kill -0 "$primepods_pid" 2>/dev/null; }

primepods_has_ended() {
  set -- "$primepods_job"/exit-*
  [ -e "$1" ] && primepods_end=${1##*/exit-}
}

# Whether another process stops the job. Until it is done, processes of the command may save their work, though
# SIGTERM has ended their shell.
primepods_is_stopping() {
  read -r primepods_stopper <"$primepods_job/stopping" && [ "$primepods_stopper" != "$$" ] && kill -0 "$primepods_stopper" || return
  [ ! -d /proc/self ] || tr '\0' '\n' <"/proc/$primepods_stopper/cmdline" | grep -qF primepods
} 2>/dev/null

primepods_is_running() {
  if [ -n "$primepods_alive" ] && primepods_is_alive && ! primepods_has_ended; then return; fi
  primepods_is_stopping
}

# Prints the state of the job.
primepods_print_state() {
  if primepods_is_running; then primepods_state="running - -"
  elif primepods_has_ended; then primepods_state="ended ${primepods_end#*-} ${primepods_end%%-*}"
  else primepods_state="interrupted - -"; fi
  printf 'job %s %s %s\n' "$primepods_name" "$primepods_time" "$primepods_state"
}

primepods_list() {
  for primepods_job in .primepods/jobs/*; do
    primepods_name=${primepods_job##*/}
    if primepods_load; then primepods_print_state; fi
  done
}

primepods_find() { if primepods_load; then primepods_print_state; else primepods_list; fi; }

# Its arguments are the job's folder, the command, `setsid` if the pod has it, command.sh, and the shell's path.
# shellcheck disable=SC2016
primepods_supervisor='
printf "%s %s\n" "$$" "$(date +%s)" >"$1/started.new" && mv "$1/started.new" "$1/started" || exit
$3 sh -c "$4" sh "$5" "$2" </dev/null >"$1/stdout" 2>"$1/stderr" &
printf "%s%s\n" "${3:+-}" "$!" >"$1/group"
wait "$!"
mv "$1/exit.new" "$1/exit-$?-$(date +%s)"
'

# After SIGTERM, the shell waits for the programs of the command, and exits with the code of the last one.
# shellcheck disable=SC2016
primepods_trap='trap "primepods_code=\$?; wait; exit \$primepods_code" TERM; '

# $1 is the token, $2 the command, $3 its folder, and $4 the script command.sh. The others are environment
# variables, NAME=VALUE. A lost connection does not interrupt the start.
primepods_start() {
  trap '' HUP PIPE
  primepods_home=$PWD primepods_token=$1 primepods_command=$2 primepods_cwd=$3 primepods_script=$4
  shift 4
  (umask 077 && mkdir -p .primepods/jobs) || return
  primepods_job=$primepods_home/.primepods/jobs/$primepods_name
  if mkdir -m 700 "$primepods_job" 2>/dev/null; then
    primepods_launch "$@" || { rm -rf "$primepods_job"; return 1; }
  elif [ ! -d "$primepods_job" ]; then
    mkdir "$primepods_job" # prints why it cannot be created
    return 1
  fi
  primepods_n=0
  until [ -s "$primepods_job/started" ]; do
    if [ "$primepods_n" -ge 300 ]; then primepods_say "the pod has not started it within 30 s, but may still do so"; return 1; fi
    primepods_nap 0.1
    primepods_n=$((primepods_n + 1))
  done
  read -r primepods_owner <"$primepods_job/token"
  if [ "$primepods_owner" = "$primepods_token" ]; then printf 'own\n'; else primepods_find; fi
}

primepods_launch() {
  cd "$primepods_cwd" || return
  primepods_setsid=
  if command -v setsid >/dev/null 2>&1; then primepods_setsid=setsid; fi
  printf '%s\n' "$primepods_command" >"$primepods_job/command" &&
    : >"$primepods_job/stdout" && : >"$primepods_job/stderr" && : >"$primepods_job/exit.new" &&
    printf '%s\n' "$primepods_token" >"$primepods_job/token" || return
  (
    trap - HUP PIPE
    export primepods_names=
    for primepods_variable in "$@" "PRIMEPODS_JOB=$primepods_token"; do
      export "primepods_env_$primepods_variable"
      primepods_names="$primepods_names ${primepods_variable%%=*}"
    done
    exec $primepods_setsid sh -c "$primepods_supervisor" primepods-job "$primepods_job" "$primepods_trap$primepods_command" "$primepods_setsid" \
      "$primepods_script" "$(command -v sh)"
  ) </dev/null >/dev/null 2>&1 &
  cd "$primepods_home" || return
}

# $1 and $2 are the offsets of the first byte to send of stdout and stderr. With $3, only the last $3 bytes are
# sent, after the end. With $4, only what is there now is sent. Prints frames: a line with stream, offset and
# length, then that many bytes. Prints the state at the end.
primepods_follow() {
  if ! primepods_load; then primepods_list; return; fi
  primepods_out=$1 primepods_err=$2 primepods_tail=$3 primepods_once=$4
  if [ -n "$primepods_tail" ]; then
    while primepods_is_running; do primepods_check_connection; primepods_nap 0.5; done
    primepods_read_sizes
    primepods_out=$((primepods_out_size > primepods_tail ? primepods_out_size - primepods_tail : 0))
    primepods_err=$((primepods_err_size > primepods_tail ? primepods_err_size - primepods_tail : 0))
    printf 'stdout %s 0\nstderr %s 0\n' "$primepods_out" "$primepods_err"
  fi
  exec 5<"$primepods_job/stdout" 6<"$primepods_job/stderr"
  primepods_seek "$primepods_out" <&5
  primepods_seek "$primepods_err" <&6
  primepods_idle=0
  while :; do
    # Check this first, so that the output read afterwards is complete.
    primepods_last=
    primepods_is_running || primepods_last=1
    primepods_read_sizes
    primepods_send stdout "$primepods_out" "$primepods_out_size" <&5
    primepods_out=$((primepods_out + primepods_n)) primepods_sent=$primepods_n
    primepods_send stderr "$primepods_err" "$primepods_err_size" <&6
    primepods_err=$((primepods_err + primepods_n)) primepods_sent=$((primepods_sent + primepods_n))
    if [ "$primepods_sent" -gt 0 ]; then primepods_idle=0; continue; fi
    if [ -n "$primepods_last$primepods_once" ]; then break; fi
    primepods_check_connection
    # Without output for five seconds, look for it each second only.
    if [ "$primepods_idle" -lt 25 ]; then primepods_nap 0.2; else primepods_nap 1; fi
    primepods_idle=$((primepods_idle + 1))
  done
  primepods_print_state
}

# `wc -c` of BusyBox reads the whole file.
primepods_read_sizes() {
  # shellcheck disable=SC2046
  set -- $(ls -ln "$primepods_job/stderr" "$primepods_job/stdout")
  primepods_err_size=$5 primepods_out_size=${14}
}

# Moves the offset of the file on stdin, which the next `dd` shares.
primepods_seek() {
  dd bs=4096 skip=$(($1 / 4096)) count=0 && dd bs=1 count=$(($1 % 4096)) >/dev/null
} 2>/dev/null

primepods_send() {
  primepods_n=$(($3 - $2))
  if [ "$primepods_n" -le 0 ]; then primepods_n=0; return; fi
  if [ "$primepods_n" -gt 1048576 ]; then primepods_n=1048576; fi
  printf '%s %s %s\n' "$1" "$2" "$primepods_n"
  dd bs="$primepods_n" count=1 2>/dev/null
}

# `kill -0` also fails for a process of another user.
primepods_check_connection() { kill -0 "$PPID" 2>/dev/null || [ -d "/proc/$PPID" ] || exit 255; }

# $1 is the tenths of seconds between SIGTERM and SIGKILL.
primepods_stop() {
  trap '' HUP PIPE
  if ! primepods_load; then primepods_list; return; fi
  primepods_grace=$1
  if primepods_is_stopping; then primepods_signal 0; else primepods_signal TERM; fi
  printf '%s\n' "$$" >"$primepods_job/stopping" # after SIGTERM, which also works on a full disk
  primepods_n=0
  while [ -n "$primepods_members" ] && [ "$primepods_n" -lt "$primepods_grace" ]; do
    primepods_nap 0.1
    primepods_n=$((primepods_n + 1))
    primepods_signal 0
  done
  primepods_n=0
  while [ -n "$primepods_members" ]; do
    if [ "$primepods_n" -ge 50 ]; then primepods_say "these processes do not end:$primepods_members"; return 1; fi
    primepods_signal KILL
    primepods_nap 0.1
    primepods_n=$((primepods_n + 1))
  done
  primepods_n=0
  while primepods_is_running && [ "$primepods_n" -lt 50 ]; do primepods_nap 0.1; primepods_n=$((primepods_n + 1)); done
  rm -f "$primepods_job/stopping"
  primepods_print_state
}

# Whether a signal for the command's group reaches the process $1. Its name, in parentheses, may have blanks.
primepods_is_in_group() {
  primepods_stat=$(cat "/proc/$1/stat") || return
  # shellcheck disable=SC2086
  set -- "$1" ${primepods_stat##*)}
  [ "$1" = "$primepods_group" ] || [ "-$4" = "$primepods_group" ]
} 2>/dev/null

# Sends a signal once to each process of the job, and lists in $primepods_members to what.
primepods_signal() {
  primepods_number=$1 primepods_group='' primepods_members=
  if primepods_is_running && read -r primepods_group <"$primepods_job/group"; then primepods_members=" $primepods_group"; fi 2>/dev/null
  # If `grep` reads past NUL characters (not all do), it saves two processes for each process of the pod.
  set -- /proc/[0-9]*/environ
  # shellcheck disable=SC2046
  if printf 'a\0b' | grep -qF b; then set -- $(grep -lsF "PRIMEPODS_JOB=$primepods_token" "$@"); fi
  for primepods_file; do
    primepods_other=${primepods_file#/proc/} primepods_other=${primepods_other%/environ}
    if [ "$primepods_other" = "$primepods_pid" ] || ! primepods_has_token "$primepods_other" -x; then continue; fi
    primepods_is_in_group "$primepods_other" || primepods_members="$primepods_members $primepods_other"
  done
  # shellcheck disable=SC2086
  if [ -n "$primepods_members" ]; then kill "-$primepods_number" $primepods_members 2>/dev/null; fi
}

"primepods_$primepods_action" "$@"
primepods_code=$?
printf '%s exit %s\n' "$primepods_mark" "$primepods_code"
printf '%s exit %s\n' "$primepods_mark" "$primepods_code" >&2
exit "$primepods_code"
