# Packs a file or a folder: prints `file` or `folder`, and then the archive.
#
# $1 is the mark. The others are paths, each absolute or with a dot at its beginning: the first that exists is
# packed.
primepods_mark=$1
shift
primepods_paths="$1${2:+ or $2}"
for primepods_target do if [ -e "$primepods_target" ]; then break; fi; done
# Options in this variable would change how `tar` works.
unset TAR_OPTIONS
# The client looks for an English message of GNU's tar.
export LC_ALL=C

primepods_download() {
  if [ -d "$primepods_target" ]; then
    printf 'folder\n'
    cd "$primepods_target" && tar -cf - .
  elif [ ! -f "$primepods_target" ]; then
    printf '%s is not a file or folder\n' "$primepods_paths" >&2
    return 1
  elif [ ! -s "$primepods_target" ] && [ "$(($(head -c 1 "$primepods_target" | wc -c)))" -gt 0 ]; then
    # `tar` would send it empty.
    printf '%s has no known size, as files in /proc: copy it to another file first\n' "$primepods_target" >&2
    return 1
  else
    printf 'file\n'
    # Without this option, which others lack, GNU's tar expands escapes such as `\t` in a given name. With
    # `-h`, `tar` packs the file to which a link points.
    set -- "./${primepods_target##*/}"
    if tar --no-unquote --version >/dev/null 2>&1; then set -- --no-unquote "$1"; fi
    cd "${primepods_target%/*}/" && tar -chf - "$@"
  fi
}

primepods_download
primepods_code=$?
printf '%s exit %s\n' "$primepods_mark" "$primepods_code"
printf '%s exit %s\n' "$primepods_mark" "$primepods_code" >&2
exit "$primepods_code"
