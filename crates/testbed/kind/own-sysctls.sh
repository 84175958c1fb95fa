#!/bin/sh
# The first program of a node. systemd (fs.*) and the kubelet (the others) write these settings at their
# start, and they are the whole machine's: give them files of the node's own to write to.
for name in fs/file-max fs/nr_open vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
  kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  [ -e "/proc/sys/$name" ] || continue
  mkdir -p "/run/own-sysctl/${name%/*}"
  cat "/proc/sys/$name" > "/run/own-sysctl/$name"
  mount --bind "/run/own-sysctl/$name" "/proc/sys/$name"
done
# The kernel lets a user namespace mount a proc of its own only where a proc can be seen that has nothing mounted
# over its files (mount_too_revealing in fs/namespace.c). Without this one, no pod with hostUsers: false starts.
mkdir -p /run/proc
mount -t proc proc /run/proc
exec "$@"
