# Packs a file or a folder: prints `file` or `folder`, and then the archive.
#
# $1 is the mark. With $2, a file, and GNU's tar, only files that changed after it are packed. The others are paths,
# each absolute or with a dot at its beginning: the first that exists is packed.
primepods_mark=$1 primepods_since=${2:+$PWD/$2} primepods_unquote=
shift 2
primepods_paths="$1${2:+ or $2}"
for primepods_target do if [ -e "$primepods_target" ]; then break; fi; done
# Options in this variable would change how `tar` works.
unset TAR_OPTIONS
# The client looks for an English message of GNU's tar.
export LC_ALL=C
# Without this option, which others lack, GNU's tar expands escapes such as `\t` in a given name.
if tar --no-unquote --version >/dev/null 2>&1; then primepods_unquote=--no-unquote; else primepods_since=; fi
if [ -n "$primepods_since" ]; then
  # Some file systems, such as Lustre, round times down to seconds.
  case $(stat -Lc %z "$primepods_target" 2>/dev/null) in *.000000000*) primepods_since=@$(date -r "$primepods_since" +%s) ;; esac
  # A new link may lead to an old file.
  if [ -L "$primepods_target" ] && [ "$(tar -cvf /dev/null -N "$primepods_since" --no-unquote "$primepods_target" 2>/dev/null)" ]; then primepods_since=; fi
fi

# $1 is what is printed first. The others are options of `tar`, and a name.
primepods_pack() {
  primepods_kind=$1
  shift
  if [ -n "$primepods_since" ]; then
    set -- -N "$primepods_since" "$@"
    # This reads no file, and also prints unchanged folders, with a slash.
    if primepods_changed=$(tar -cvf /dev/null "$@" 2>/dev/null) && ! printf '%s\n' "$primepods_changed" | grep -q '[^/]$'; then
      printf '%s has no file that changed since the command began\n' "$primepods_target" >&2
      return 1
    fi
  fi
  printf '%s\n' "$primepods_kind"
  tar -cf - "$@"
}

primepods_download() {
  if [ -d "$primepods_target" ]; then
    cd "$primepods_target" && primepods_pack folder .
  elif [ ! -f "$primepods_target" ]; then
    printf '%s is not a file or folder\n' "$primepods_paths" >&2
    return 1
  elif [ ! -s "$primepods_target" ] && [ "$(($(head -c 1 "$primepods_target" | wc -c)))" -gt 0 ]; then
    # `tar` would send it empty.
    printf '%s has no known size, as files in /proc: copy it to another file first\n' "$primepods_target" >&2
    return 1
  else
    # With `-h`, `tar` packs the file to which a link points.
    # shellcheck disable=SC2086
    cd "${primepods_target%/*}/" && primepods_pack file -h $primepods_unquote "./${primepods_target##*/}"
  fi
}

primepods_download
primepods_code=$?
printf '%s exit %s\n' "$primepods_mark" "$primepods_code"
printf '%s exit %s\n' "$primepods_mark" "$primepods_code" >&2
exit "$primepods_code"
