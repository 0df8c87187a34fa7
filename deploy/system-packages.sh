#!/bin/sh
# Installs what setting up, sandbox and tests need from Debian where we are root there; elsewhere says what is
# missing. Fails where something is that we can't do without; with --all, which asks for what only tests need too,
# where anything is.
set -eu
all=${1:-}
packages() { # of the commands that are not there
    command -v git >/dev/null 2>&1 || echo git
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || echo python3-venv
    [ "$(uname)" != Linux ] || command -v bwrap >/dev/null 2>&1 || echo bubblewrap
    [ "$all" = --all ] || return 0
    command -v sqlite3 >/dev/null 2>&1 || echo sqlite3
    command -v promtool >/dev/null 2>&1 || echo prometheus
    command -v chromedriver >/dev/null 2>&1 || echo chromium chromium-driver
    [ "$(uname)" != Linux ] || network
}
network() { # what tests/chaos is made with; root alone can use it
    [ "$(id -u)" = 0 ] || return 0
    command -v ip >/dev/null 2>&1 && command -v tc >/dev/null 2>&1 || echo iproute2
    command -v iptables >/dev/null 2>&1 || echo iptables
}
missing=$(packages)
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
    exit 0
fi
echo "missing: $(echo $missing) (install with your system's package manager)" >&2
if [ "$all" != --all ] && [ "$missing" = bubblewrap ]; then
    echo "without bubblewrap, peers' code is contained by Landlock alone" >&2
    exit 0
fi
exit 1
