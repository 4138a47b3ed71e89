# SPDX-License-Identifier: MIT OR Apache-2.0
# sh -c THIS sandbox BUILD TREE COMMAND ARG...
#
# Runs in fresh user, mount, pid, net and ipc namespaces, as their root. Makes a root file
# system of its own: the compiler's folders and TREE, read-only, and BUILD; nothing else
# of the host is in it, so that neither the home directory nor other runs can be read.
# Then gives up all capabilities, for good. Whatever fails ends it: no half-closed sandbox.
set -eu
build=$1
tree=$2
shift 2
here=$(pwd -P)

root=$build/.sandbox-root
mkdir -p "$root"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root"

# What compilers and the kernel's scripts are made of. Of /etc only what programs are
# found by: as root of the host one could read all of it.
show() {
    if [ -L "$1" ]; then
        mkdir -p "$root${1%/*}"
        ln -s "$(readlink "$1")" "$root$1"
    elif [ -d "$1" ]; then
        mkdir -p "$root$1"
        mount --rbind "$1" "$root$1"
    elif [ -f "$1" ]; then
        mkdir -p "$root${1%/*}"
        : >"$root$1"
        mount --bind "$1" "$root$1"
    fi
}
for path in /usr /bin /sbin /lib /lib32 /lib64 /libx32 /opt /nix/store /gnu/store \
    /etc/alternatives /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d \
    /etc/perl /etc/python3 /etc/python3.*; do
    [ ! -e "$path" ] || show "$path"
done
mkdir -p "$root$tree"
mount --bind "$tree" "$root$tree"
mkdir -p "$root$build"
mount --bind "$build" "$root$build"

# Flags that are set already are locked in here: they must be named again.
while read -r _ _ _ _ at options _; do
    at=$(printf '%b' "$at")
    case $at in
        "$root$build") mount -o remount,bind,nodev,nosuid "$at" ;;
        "$root"/*)
            options=${options#rw}
            mount -o "remount,bind,ro${options#ro},nodev" "$at"
            ;;
    esac
done </proc/self/mountinfo

# A /dev with what a compiler needs. As root of the host one could otherwise write to its
# disks: a node on a read-only file system is still writable.
mkdir "$root/dev"
for node in null zero full random urandom; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"

# Read-only: it has files that root may write to whatever its capabilities.
mkdir "$root/proc"
mount -t proc -o ro proc "$root/proc" 2>/dev/null || mount -t tmpfs -o ro tmpfs "$root/proc"
# Where the tree itself lies there, TMPDIR has to do.
[ -e "$root/tmp" ] || {
    mkdir "$root/tmp"
    mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
}
mkdir "$root/.host"

cd "$root"
pivot_root . .host
umount -l /.host
rmdir /.host
mount -o remount,bind,ro,nosuid /
rmdir "$build/.sandbox-root"
cd "$here" 2>/dev/null || cd "$build"

exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
