# Sourced by the tools beside it: sets up system packages and a virtualenv, saying what it does.
# It can be run again at any time; what is there already is left as it is.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${ISONEPH_VENV:-$top/.venv}

say() { printf '==> %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# The packages of bindep.txt for the profiles given ("run" are the lines without a profile).
wanted_packages() {
    local profile line name selector
    while read -r line; do
        case $line in ''|'#'*) continue ;; esac
        name=${line%% *}
        selector=${line#*platform:dpkg}
        selector=${selector%]}
        selector=${selector# }
        for profile in "$@"; do
            if [ "${selector:-run}" = "$profile" ]; then echo "$name"; fi
        done
    done < "$top/bindep.txt"
}

# set_up_system PROFILE...: Debian packages that are missing.
set_up_system() {
    local package missing=()
    for package in $(wanted_packages "$@"); do
        if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
            missing+=("$package")
        fi
    done
    # A python3 of another make (pyenv, a container image) does as well as Debian's.
    if python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
    then
        local kept=()
        for package in ${missing[@]+"${missing[@]}"}; do
            case $package in python3|python3-venv) ;; *) kept+=("$package") ;; esac
        done
        missing=(${kept[@]+"${kept[@]}"})
    fi
    if [ ${#missing[@]} -eq 0 ]; then
        say "system packages: all there"
        return
    fi
    say "installing system packages: ${missing[*]}"
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install \
        "${missing[@]}" >/dev/null
}

# set_up_python EXTRA: the virtualenv, with isoneph (editable) and one of its extras.
set_up_python() {
    local extra=$1 stamp wanted
    stamp=$venv/.isoneph-$extra
    wanted=$(cat "$top/setup.cfg" "$top/pyproject.toml" | sha256sum)
    if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        say "virtualenv ${venv#"$top/"}: up to date"
        return
    fi
    say "virtualenv ${venv#"$top/"}: installing isoneph[$extra] (a minute or two the first time)"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$top[$extra]"
    printf '%s' "$wanted" > "$stamp"
}
