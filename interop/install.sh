#!/bin/sh
# Installs the peers of `make interop` at exact versions under .tools/interop of the checkout.
# Does nothing when what is there was installed from the same lists.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
tools=$(dirname "$here")/.tools/interop
mkdir -p "$tools"

# fresh STAMP FILE...: true when the stamp was written for exactly these contents.
fresh() {
    stamp=$1
    shift
    [ -f "$stamp" ] && [ "$(cat "$@" | cksum)" = "$(cat "$stamp")" ]
}

install_node() {
    stamp=$tools/node.stamp
    if fresh "$stamp" "$here/package.json" "$here/package-lock.json"; then return; fi
    command -v npm > /dev/null || { echo "interop/install.sh: npm is needed once, to fetch Node 22 and packages" >&2; exit 69; }
    echo "interop: installing Node and npm packages" >&2
    rm -rf "$stamp" "$tools/node"
    mkdir "$tools/node"
    cp "$here/package.json" "$here/package-lock.json" "$tools/node/"
    (cd "$tools/node" && npm ci --no-audit --no-fund --loglevel=error) >&2
    case $("$tools/node/node_modules/node/bin/node" --version) in
        v22.*) ;;
        *) echo "interop: the installed Node is not version 22" >&2; exit 1 ;;
    esac
    cat "$here/package.json" "$here/package-lock.json" | cksum > "$stamp"
}

install_python() {
    stamp=$tools/venv.stamp
    if fresh "$stamp" "$here/requirements.txt"; then return; fi
    echo "interop: installing Python packages" >&2
    rm -rf "$stamp" "$tools/venv"
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
    cksum < "$here/requirements.txt" > "$stamp"
}

install_node
install_python
