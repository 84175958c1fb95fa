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
exec "$@"
