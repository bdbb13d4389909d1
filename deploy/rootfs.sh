#!/bin/sh
# Lays out the root file system of the image: deploy/rootfs.sh PROGRAMS OUT
# PROGRAMS is the folder with what cargo built; OUT must not be there yet.
set -eu

programs="enfilade enfilade-loadtest"
certificates=/etc/ssl/certs/ca-certificates.crt
user=10001

from=$1
out=$2
mkdir "$out"
umask 022

install -d "$out/usr/bin" "$out/etc/ssl/certs" "$out/proc" "$out/dev" "$out/sys"
# For whatever user the container is given.
install -d -m 1777 "$out/tmp" "$out/var/lib/enfilade"

for program in $programs; do
    strip -o "$out/usr/bin/$program" "$from/$program"
    chmod 755 "$out/usr/bin/$program"
    # What the loader would load, and the loader itself, each where it looks for it.
    ldd "$from/$program" | awk '$2 == "=>" && $3 ~ "^/" { print $3 } $1 ~ "^/" { print $1 } /not found/ { exit 1 }' \
        | while read -r library; do install -D -m 755 "$library" "$out$library"; done
done

[ -s "$certificates" ] || { echo "rootfs.sh: $certificates is missing: install ca-certificates" >&2; exit 69; }
install -m 644 "$certificates" "$out$certificates"
echo "enfilade:x:$user:$user:enfilade:/var/lib/enfilade:/sbin/nologin" > "$out/etc/passwd"
echo "enfilade:x:$user:" > "$out/etc/group"
# Names as in any pod: the hosts file, then DNS; both are in libc.
echo "hosts: files dns" > "$out/etc/nsswitch.conf"
chmod 644 "$out/etc/passwd" "$out/etc/group" "$out/etc/nsswitch.conf"
