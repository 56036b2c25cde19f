# A Debian of its own in namespaces of its own, booted by systemd, with no network but its loopback. Read by deploy/verify-bundle.
# Needs `machine` (the folder of its root) and `log`.

boot() {
  cgroups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  [ -n "$cgroups" ] || { echo "no cgroup2 is mounted here"; return 1; }
  cgroup=$cgroups/ekms-machine-$$
  mkdir "$cgroup"
  rm -f "$machine.pid"
  # The shell enters a cgroup of its own before the namespaces are made: what systemd takes for the root is that.
  sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' sh "$cgroup" unshare --mount --pid --net --uts --ipc --cgroup --fork sh -c '
    set -e
    machine=$1
    mount --make-rprivate /
    mount --bind "$machine" "$machine"
    cd "$machine"
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs run
    mount -t tmpfs tmpfs tmp
    mount -t tmpfs -o mode=755 tmpfs dev
    for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do set -- $node; mknod -m 666 "dev/$1" c "$2" "$3"; done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    mount -t tmpfs tmpfs dev/shm
    hostname ekms-machine
    mkdir -p mnt/outside
    pivot_root . mnt/outside
    umount -l /mnt/outside
    mount --make-rshared / # what systemd asks of a container: credentials reach units that way
    exec env -i container=ekms-machine PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=console --show-status=no
  ' sh "$machine" >"$log.boot" 2>&1 &
  supervisor=$!
  for _ in $(seq 100); do
    init=$(cat /proc/$supervisor/task/$supervisor/children 2>/dev/null | tr -d ' ')
    [ -z "$init" ] || inside systemctl is-system-running --wait >/dev/null 2>&1 || case "$(inside systemctl is-system-running 2>/dev/null)" in running | degraded) return 0 ;; *) sleep 0.2; continue ;; esac
    [ -z "$init" ] || return 0
    sleep 0.2
  done
  echo "systemd did not boot"
  return 1
}

inside() { nsenter --target "$init" --mount --pid --net --uts --ipc --cgroup env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"; }

shut_down() {
  [ -z "${init:-}" ] || kill -KILL "$init" 2>/dev/null || true # the first process of its namespace: every other goes with it
  [ -z "${supervisor:-}" ] || wait "$supervisor" 2>/dev/null || true
  init='' supervisor=''
  for _ in $(seq 50); do find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && break || sleep 0.1; done
}
