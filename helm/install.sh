#!/bin/sh
# Installs the peers of `make helm` at exact versions under .tools/helm of the checkout.
# Does nothing when what is there was installed from the same list.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
tools=$(dirname "$here")/.tools/helm
stamp=$tools/venv.stamp
mkdir -p "$tools"

if [ -f "$stamp" ] && [ "$(cksum < "$here/requirements.txt")" = "$(cat "$stamp")" ]; then exit 0; fi
echo "helm: installing Helm's library and Kubernetes' schemas (400 MB)" >&2
rm -rf "$stamp" "$tools/venv"
python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/requirements.txt" >&2
cksum < "$here/requirements.txt" > "$stamp"
