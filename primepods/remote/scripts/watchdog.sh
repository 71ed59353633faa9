# Deletes its own pod: at a limit, some time after the last job, or when the GPUs are idle.
#
# $1 is the mark, $2 the URL of the pod, $3 its id, $4 its team or nothing; $5 the seconds until the limit, $6 after
# the last job, $7 without work for a GPU, or nothing, and $8 between two looks; $9 the key. Only shells of this
# script know the key: it is in no argument, environment or named file. The folder .primepods/watchdog/ID has the
# log; a file `off` there ends the watchdog.
#
# shellcheck disable=SC2059,SC2094,SC2329 # a format is an argument; a file without a name; functions called by name
trap '' HUP PIPE; umask 077
# An image that exports these names, or everything, would show the key to programs.
set +a; unset primepods_key primepods_script primepods_line
primepods_mark=$1 primepods_url=$2 primepods_id=$3 primepods_team=$4 primepods_limit=$5 primepods_after_job=$6
primepods_idle=$7 primepods_interval=$8 primepods_key=$9 primepods_jobs=$PWD/.primepods/jobs
primepods_folder=$PWD/.primepods/watchdog primepods_state=$PWD/.primepods/watchdog/$3 primepods_part=start

primepods_fail() { printf '%s\n' "$2" >&2; return "$1"; }
primepods_log() { printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" >>"$primepods_state/log"; }
# Reads a clock that nobody sets, in seconds; dates may jump.
primepods_read_clock() { read -r primepods_now _ </proc/uptime && primepods_now=${primepods_now%%.*}; }

# $1 is the format of a header. `printf` is a part of the shell, so that no process has the key as an argument.
primepods_headers() { printf "$1" "Authorization: Bearer $primepods_key" ${primepods_team:+"X-Prime-Team-ID: $primepods_team"}; }

# Each of these prints a response with its headers. They follow no redirect, which would take the key elsewhere.
primepods_curl() { primepods_headers 'header = "%s"\n' | curl -q -s -i -m 30 -X "$1" --config - "$primepods_url"; }

# wget reads no pipe, so it gets a file without a name. That of BusyBox refuses these options.
primepods_wget() {
  exec 4>"$primepods_folder/$primepods_part" <"$primepods_folder/$primepods_part" && rm "$primepods_folder/$primepods_part" || return
  primepods_headers 'header = %s\n' >&4
  wget -q -S -O - -t 1 -T 30 --config=/dev/stdin --method="$1" --content-on-error --max-redirect=0 "$primepods_url" 2>&1 4>&-
}

primepods_python3() {
  primepods_headers '%s\n' | python3 -I -c '
import sys, urllib.error, urllib.request as u
headers = dict(line.split(": ", 1) for line in sys.stdin.read().splitlines())
opener = u.build_opener(type("Stay", (u.HTTPRedirectHandler,), {"redirect_request": lambda *_: None}))
try: got = opener.open(u.Request(sys.argv[2], method=sys.argv[1], headers=headers), timeout=30)
except urllib.error.HTTPError as error: got = error
print(f"HTTP/1.1 {got.code}", got.headers, got.read(65536).decode(errors="replace"), sep="\n")' "$1" "$primepods_url"
}

# Sends a request with the first program that gets a response, and sets its status.
primepods_request() {
  primepods_status="it has no curl, GNU wget or python3"
  for primepods_program in curl wget python3; do
    command -v "$primepods_program" >/dev/null 2>&1 || continue
    primepods_response=$("primepods_$primepods_program" "$1" 2>/dev/null | head -c 100000 | tr -d '\000\r')
    primepods_status=$(printf '%s\n' "$primepods_response" | sed -n 's/^ *HTTP[^ ]* \([0-9]*\).*/\1/p' | tail -n 1)
    if [ -n "$primepods_status" ]; then return; fi
    primepods_status="no response to $primepods_program"
  done
}

primepods_says() { printf '%s\n' "$primepods_response" | grep -qiE "$1"; }

# Deletes the pod. A proxy may respond for the API: only its own words end this, and a 404 only if it is repeated.
primepods_give_back() {
  primepods_log "$1"
  primepods_pause=1 primepods_missing=0 primepods_logged=
  until [ -e "$primepods_state/off" ]; do
    primepods_request DELETE
    if [ "$primepods_status" != "$primepods_logged" ]; then primepods_log "DELETE: $primepods_status"; fi
    primepods_logged=$primepods_status
    case $primepods_status in
      2??) if primepods_says '"status" *: *"(DELETING|TERMINATED)"'; then primepods_missing=2; fi ;;
      404) if primepods_says '^ *content-type: *application/json'; then primepods_missing=$((primepods_missing + 1)); fi ;;
    esac
    if [ "$primepods_missing" -ge 2 ]; then : >"$primepods_state/off"; return; fi
    sleep "$primepods_pause"; primepods_pause=$((primepods_pause < 30 ? primepods_pause * 2 : 60))
  done
}

# $1 is `limit` or `work`. The limit has its own process: an nvidia-smi that does not end cannot delay it.
primepods_watch() {
  primepods_part=$1 primepods_reason='' primepods_had_job='' primepods_worked=$primepods_now primepods_computed=$primepods_now
  until [ -e "$primepods_state/off" ]; do
    # Only an emulator has such a URL: end with its pod, which is a folder of a machine that goes on.
    case $primepods_url in http:*) primepods_request GET; case $primepods_status in 404 | no*) : >"$primepods_state/off" ;; esac ;; esac
    primepods_read_clock
    "primepods_look_at_$1"
    if [ -n "$primepods_reason" ]; then primepods_give_back "$primepods_reason"; else sleep "$primepods_interval"; fi
  done
}

primepods_look_at_limit() {
  primepods_interval=$((primepods_ends - primepods_now < 60 ? primepods_ends - primepods_now : 60))
  if [ "$primepods_interval" -le 0 ]; then primepods_reason="The limit is reached."; fi
}

# A job that runs counts as work, and so does a connection that bootstrap.sh has noted.
primepods_look_at_work() {
  for primepods_file in "$primepods_jobs"/*/started "$primepods_folder"/connection-*; do
    read -r primepods_pid primepods_time <"$primepods_file" || continue
    case $primepods_file in
      */connection-*) primepods_worked=$primepods_now; kill -0 "$primepods_pid" || rm -f "$primepods_file" ;;
      *) case $primepods_old in *"$primepods_pid $primepods_time"*) ;; *) primepods_had_job=1 ;; esac
        if [ ! -e "$(echo "${primepods_file%started}"exit-*)" ] && kill -0 "$primepods_pid"; then primepods_worked=$primepods_now; fi
    esac
  done 2>/dev/null
  if [ $((primepods_now - primepods_worked)) -ge "$primepods_after_job" ] && [ -n "$primepods_had_job" ]; then
    primepods_reason="The last job ended, and the last connection was closed, more than $primepods_after_job s ago."
  fi
  if [ -n "$primepods_idle" ] && ! primepods_gpus_are_idle; then primepods_computed=$primepods_now; fi
  if [ -n "$primepods_idle" ] && [ $((primepods_now - primepods_computed)) -ge "$primepods_idle" ]; then
    primepods_reason="No GPU was above 5 % for $primepods_idle s."
  fi
}

# Returns 1 if a GPU works, and 2 if nvidia-smi does not tell.
primepods_gpus_are_idle() {
  primepods_loads=$(nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits 2>/dev/null | tr -d ' ')
  case $primepods_loads in '' | *[!0-9[:space:]]*) return 2 ;; esac
  for primepods_load in $primepods_loads; do if [ "$primepods_load" -gt 5 ]; then return 1; fi; done
}

primepods_begin() {
  case $(command -v printf) in /*) primepods_fail 1 "its shell has no printf of its own"; return ;; esac
  primepods_read_clock || { primepods_fail 1 "it has no /proc/uptime"; return; }
  primepods_ends=$((primepods_now + primepods_limit)) primepods_n=1
  [ -z "$primepods_idle" ] || primepods_gpus_are_idle
  if [ "$?" -eq 2 ]; then primepods_fail 1 "its nvidia-smi does not tell the use of its GPUs"; return; fi
  mkdir -p "$primepods_folder" || return
  primepods_request GET
  until [ "$primepods_status" = 200 ] && primepods_says "\"$primepods_id\""; do
    case $primepods_status-$primepods_n in
      40[13]-*) primepods_fail 3 "$primepods_status"; return ;;
      404-5) primepods_fail 3 404; return ;;
      *-5) primepods_fail 1 "its requests do not reach the API ($primepods_status)"; return ;;
    esac
    sleep 2
    primepods_n=$((primepods_n + 1))
    primepods_request GET
  done
  # Jobs of an earlier pod may be on a disk that outlives it.
  primepods_old=$(cat "$primepods_jobs"/*/started 2>/dev/null)
  # A start whose response was lost is sent again.
  if mkdir "$primepods_state" 2>/dev/null; then
    (primepods_watch limit) </dev/null >/dev/null 2>&1 &
    primepods_pid=$!
    (primepods_watch work) </dev/null >/dev/null 2>&1 &
    printf '%s\n' "$primepods_pid $!" >"$primepods_state/on"
    primepods_log "The limit is $primepods_limit s from now."
  else
    sleep 1
  fi
  if ! read -r primepods_pid _ <"$primepods_state/on" || ! kill -0 "$primepods_pid"; then primepods_fail 1 "it has not started"; fi
}

primepods_begin
primepods_code=$?
printf '%s exit %s\n' "$primepods_mark" "$primepods_code"
printf '%s exit %s\n' "$primepods_mark" "$primepods_code" >&2
exit "$primepods_code"
