#!/usr/bin/env bash
# Installs what `make conformance` needs under <checkout>/.tools: Node 22, and the pins of package-lock.json.
# Idempotent: a stamp in each folder says what it holds, so a second run costs milliseconds.
# A folder is filled under a temporary name and renamed: several installers may run at the same time.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tools="$(dirname "$here")/.tools"
export NPM_CONFIG_FUND=false NPM_CONFIG_AUDIT=false NPM_CONFIG_UPDATE_NOTIFIER=false NPM_CONFIG_PROGRESS=false

fresh=""
trap 'if [ -n "$fresh" ]; then rm -rf "$fresh"; fi' EXIT

holds() { [ -f "$1/.ok" ] && [ "$(cat "$1/.ok")" = "$2" ]; }

# publish FRESH TARGET STAMP: renames a filled folder to its place, replacing one with another stamp.
publish() {
  printf '%s\n' "$3" >"$1/.ok"
  chmod 755 "$1"
  if [ -e "$2" ] && ! holds "$2" "$3"; then
    mv "$2" "$1.old" && rm -rf "$1.old"
  fi
  # -T: never into a folder that another installer has put there meanwhile; theirs is as good as ours.
  mv -T "$1" "$2" 2>/dev/null || rm -rf "$1"
  fresh=""
}

need_npm() {
  command -v npm >/dev/null || { echo "conformance/install.sh: npm is needed once, to fetch $1" >&2; exit 69; }
}

install_node() {
  need_npm "Node 22"
  fresh="$(mktemp -d "$tools/.fill.XXXXXX")"
  printf '{"private":true}\n' >"$fresh/package.json"
  (cd "$fresh" && npm install --loglevel=error node@22 >&2)
  publish "$fresh" "$tools/node" "node@22"
}

install_suite() {
  need_npm "the suite"
  fresh="$(mktemp -d "$tools/.fill.XXXXXX")"
  cp "$here/package.json" "$here/package-lock.json" "$fresh/"
  (cd "$fresh" && npm ci --ignore-scripts --loglevel=error >&2)
  publish "$fresh" "$tools/conformance" "$1"
}

mkdir -p "$tools"
# The node folder is shared with other installers, so the presence of its stamp is enough.
[ -f "$tools/node/.ok" ] || install_node
export PATH="$tools/node/node_modules/.bin:$PATH"

pins="$(cat "$here/package.json" "$here/package-lock.json" | sha256sum | cut -c1-64)"
holds "$tools/conformance" "$pins" || install_suite "$pins"
