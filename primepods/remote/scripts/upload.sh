# Unpacks an archive from its standard input, completely or not at all.
#
# $1 is the mark, $2 is `file` or `folder`, $3 the target, which is absolute or begins with a dot, and $4 the
# file's name if the target is a folder. The archive has the members `data` and, if it is complete, `end`.
#
# It is unpacked into a hidden folder in the nearest folder that exists, because a rename cannot cross disks,
# and an existing target may be a mount point. Renames then put the copy in place.
primepods_mark=$1 primepods_kind=$2 primepods_target=$3 primepods_name=$4
# A lost connection must not prevent the cleanup.
trap '' HUP PIPE
# Options in this variable would change how `tar` works.
unset TAR_OPTIONS

primepods_say() { printf '%s\n' "$1" >&2; }

primepods_upload() {
  if [ "$primepods_kind" = file ] && [ -d "$primepods_target" ]; then
    primepods_target=$primepods_target/$primepods_name
    # From here on, the target of a file is the path of the file.
    if [ -d "$primepods_target" ]; then primepods_say "$primepods_target is a folder"; return 1; fi
  fi
  primepods_base=$primepods_target
  if [ "$primepods_kind" = file ]; then primepods_base=${primepods_base%/*}; fi
  while [ ! -d "${primepods_base:-/}" ]; do
    primepods_missing=$primepods_base
    primepods_base=${primepods_base%/*}
  done
  if [ -n "$primepods_missing" ] && [ -e "$primepods_missing" ]; then
    primepods_say "$primepods_missing is a file"
    return 1
  fi
  primepods_staging=${primepods_base:-/}/.$primepods_mark
  mkdir -m 700 "$primepods_staging" || return
  (cd "$primepods_staging" && tar -xpf -) || return
  if [ ! -f "$primepods_staging/end" ]; then primepods_say 'the copy ended early'; return 1; fi
  if [ "$primepods_kind" = folder ] && [ -d "$primepods_target" ]; then
    primepods_merge
    return
  fi
  mkdir -p "${primepods_target%/*}/" && mv -f "$primepods_staging/data" "$primepods_target" && return
  # Remove the folders that this script has made.
  if [ -n "$primepods_missing" ]; then
    find "$primepods_missing" -depth -type d -exec rmdir {} \; 2>/dev/null
  fi
  return 1
}

# Moves the content of `data` into the existing target, after some checks. If a move fails, the script tries to
# undo all moves.
#
# In the small scripts, $0 is the target, and the arguments are paths in `data`.
primepods_merge() {
  case $primepods_target in /*) ;; *) primepods_target=$primepods_home/$primepods_target ;; esac
  cd "$primepods_staging/data" || return
  find . -type d ! -name . -exec sh -c '
    for path do if [ -L "$0/$path" ] || { [ -e "$0/$path" ] && [ ! -d "$0/$path" ]; }; then
      printf "%s is not a folder there\n" "$path" >&2; exit 1
    fi; done' "$primepods_target" {} + || return
  find . ! -type d -exec sh -c '
    for path do if [ -d "$0/$path" ]; then
      printf "%s is a folder there\n" "$path" >&2; exit 1
    fi; done' "$primepods_target" {} + || return
  # A link to a file of ours shows that a folder can be written, and that it is on the same disk. To another
  # disk, `mv` would copy a file, and leave a part of it if that disk is full. Some disks have no links.
  if ln ../end ../link 2>/dev/null; then
    find . -type d -exec sh -c '
      for path do [ ! -d "$0/$path" ] ||
        { ln ../end "$0/$path/$1" && rm -f "$0/$path/$1"; } || exit; done
      ' "$primepods_target" ".$primepods_mark-end" {} + || return
  fi
  # `old` gets the replaced files, and `new` the names of the files that the target does not have.
  find . -type d -exec sh -c '
    for path do [ ! -d "$0/$path" ] || mkdir -p "../old/$path" "../new/$path"; done
    ' "$primepods_target" {} +
  # Move the folders that the target does not have, without descending into them; then the other files.
  find . -type d -exec sh -c '
    [ ! -d "$0/$1" ] && : >"../new/$1" && { mv "$1" "$0/$1" || : >../failed; }
    ' "$primepods_target" {} \; -prune
  [ ! -e ../failed ] && find . ! -type d -exec sh -c '
    for path do
      if [ -e "$0/$path" ] || [ -L "$0/$path" ]; then
        ln "$0/$path" "../old/$path" 2>/dev/null || mv "$0/$path" "../old/$path" || exit
      else
        : >"../new/$path"
      fi
      mv -f "$path" "$0/$path" || exit
    done' "$primepods_target" {} + && return
  cd ../old && find . ! -type d -exec sh -c '
    for path do mv -f "$path" "$0/$path"; done' "$primepods_target" {} +
  cd ../new && find . -type f -exec sh -c '
    for path do rm -rf "$0/$path"; done' "$primepods_target" {} +
  return 1
}

primepods_home=$PWD primepods_staging='' primepods_missing=''
primepods_upload
primepods_code=$?
if [ -n "$primepods_staging" ]; then cd "$primepods_home" && rm -rf "$primepods_staging"; fi
printf '%s exit %s\n' "$primepods_mark" "$primepods_code"
printf '%s exit %s\n' "$primepods_mark" "$primepods_code" >&2
exit "$primepods_code"
