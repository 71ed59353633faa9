# Exits with 0 if the node has as many GPUs as $PRIMEPODS_GPU_COUNT says, and each responds and has no
# uncorrectable memory error since its driver was loaded. Otherwise, standard error says what is wrong.
[ "${PRIMEPODS_GPU_COUNT-}" != 0 ] || exit 0

rows=$(nvidia-smi --query-gpu=index,memory.used,ecc.errors.uncorrected.volatile.total \
  --format=csv,noheader,nounits 2>&1)
code=$?
case $code in
  0) ;;
  14) ;; # a warning about the infoROM, which has no effect on computations
  127) echo "the GPUs are not checked, because the image has no nvidia-smi" >&2; exit 0 ;;
  *) echo "nvidia-smi exits with $code:" "$(printf %s "$rows" | tr '\n' ' ')" >&2; exit 1 ;;
esac

# The fields of a GPU may be [N/A], [Unknown Error], [GPU is lost] or [GPU requires reset].
found=0
while IFS=, read -r index memory errors; do
  case $index in '' | *[!0-9]*) continue ;; esac
  found=$((found + 1))
  case "$memory$errors" in
    *Error* | *ERR* | *lost* | *reset*) echo "GPU $index does not respond:$memory" >&2; exit 1 ;;
  esac
  case $errors in
    *[1-9]*) echo "GPU $index has uncorrectable memory errors:$errors" >&2; exit 1 ;;
  esac
done <<EOF
$rows
EOF
if [ "$found" -lt "${PRIMEPODS_GPU_COUNT:-1}" ]; then
  echo "only $found of ${PRIMEPODS_GPU_COUNT:-1} GPUs respond" >&2
  exit 1
fi
