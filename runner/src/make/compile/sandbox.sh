# SPDX-License-Identifier: MIT OR Apache-2.0
# sh -c THIS sandbox BUILD COMMAND ARG...
#
# Runs in fresh user, mount, pid, net and ipc namespaces, as their root. Makes
# everything read-only and without devices, except BUILD; hides what can be
# talked to (devices, sockets); then gives up all capabilities, for good.
# Whatever fails ends it: no half-closed sandbox.
set -eu
build=$1
shift

mounts=$(cat /proc/self/mountinfo)

# A /dev with what a compiler needs. As root of the host one could otherwise
# write to its disks: a node on a read-only file system is still writable.
dev=$build/.sandbox-dev
mkdir -p "$dev"
mount -t tmpfs -o mode=755 tmpfs "$dev"
for node in null zero full random urandom; do
    : >"$dev/$node"
    mount --bind "/dev/$node" "$dev/$node"
done
mkdir "$dev/shm"
ln -s /proc/self/fd "$dev/fd"
ln -s /proc/self/fd/0 "$dev/stdin"
ln -s /proc/self/fd/1 "$dev/stdout"
ln -s /proc/self/fd/2 "$dev/stderr"
mount --move "$dev" /dev
rmdir "$dev"

# Its own mount, so that it can be another than the rest.
mount --bind "$build" "$build"
mount -o remount,bind,nodev,nosuid "$build"

# Flags that are set already are locked in here: they must be named again.
printf '%s\n' "$mounts" | while read -r _ _ _ _ at options _; do
    at=$(printf '%b' "$at")
    case $at in
        /dev | /dev/* | /proc | /proc/*) continue ;;
    esac
    [ -e "$at" ] || continue
    options=${options#rw}
    mount -o "remount,bind,ro${options#ro},nodev" "$at"
done

# Sockets of daemons: connecting needs no writable file system.
for hidden in /run /tmp; do
    case $build/ in
        "$hidden"/*) ;;
        *) [ ! -d "$hidden" ] || mount -t tmpfs -o mode=1777 tmpfs "$hidden" ;;
    esac
done

# Read-only: it has files that root may write to whatever its capabilities.
mount -t proc -o ro proc /proc 2>/dev/null || mount -t tmpfs -o ro tmpfs /proc

exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
