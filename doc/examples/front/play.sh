#!/bin/sh
# Plays the page "Before an SCTP service that is there already" and shows what there is to see: two
# servers, the relay before them, clients that say something; then the first server ends.
# Needs a kernel with SCTP, lksctp-tools, and isoneph in PATH. Leaves nothing behind.
set -eu
front=$(dirname "$0")
work=$(mktemp -d)
export XDG_RUNTIME_DIR="$work" XDG_STATE_HOME="$work"
started=
trap 'kill $started 2>/dev/null || true; wait; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# start NAME COMMAND...: in the background, as in a terminal of its own.
start() {
    name=$1
    shift
    mkfifo "$work/$name.keys"
    "$@" <>"$work/$name.keys" >"$work/$name" 2>&1 &
    started="$started $!"
}

# until_it_prints NAME TEXT: a minute at most.
until_it_prints() {
    tries=0
    until grep -q "$2" "$work/$1"; do
        tries=$((tries + 1))
        if [ $tries -gt 600 ]; then
            echo "$1 has not printed '$2', but:"
            cat "$work/$1"
            exit 1
        fi
        sleep 0.1
    done
}

server() {
    start "$1" stdbuf -oL sctp_darn -H "$1" -P 7001 -l
    until_it_prints "$1" listening
}

# client NAME PORT TEXT SERVER: connects to the relay, says TEXT, and SERVER gets it.
client() {
    start "$1" sctp_darn -H 127.0.0.1 -P "$2" -h 127.0.0.1 -p 36412 -s
    echo "$3" >"$work/$1.keys"
    until_it_prints "$4" "DATA.*$3"
    echo "The $1 client says '$3', and the server at $4 prints it:"
    grep DATA "$work/$4" | tail -n 1
}

status() {
    isoneph relay status front --once --config-dir "$front"
}

checksctp
isoneph --version
server 127.0.0.2
first_server=$!
server 127.0.0.3
start relay isoneph relay front --config-dir "$front"
until_it_prints relay 'backend 127.0.0.2 is ready'
until_it_prints relay 'backend 127.0.0.3 is ready'
cat "$work/relay"
client first 6001 hello 127.0.0.2
client second 6002 'good day' 127.0.0.3
status
echo 'The first server ends:'
kill $first_server
until_it_prints relay '127.0.0.2 is not ready'
tail -n 1 "$work/relay"
client third 6003 anybody 127.0.0.3
status
