# shellcheck disable=SC2154 # primepods_names is exported
#
# Replaces itself by the command's shell, and gives the command its variables, which none of the scripts'
# programs may see: PATH, LD_PRELOAD and others would change how these work.
#
# $1 is the path of the shell, and $2 the command. The variables come with the prefix primepods_env_, and their
# names in primepods_names. These lines are joined with spaces, so that they are one argument on one line.
#
# Python prints each line at once, instead of 8 KiB at a time, unless the pod or the user decides otherwise.
export PYTHONUNBUFFERED="${PYTHONUNBUFFERED-1}";
for primepods_name in $primepods_names; do eval "export $primepods_name=\"\$primepods_env_$primepods_name\""; done;
for primepods_name in $primepods_names; do unset "primepods_env_$primepods_name"; done;
unset primepods_names primepods_name;
exec "$1" -c "$2"
