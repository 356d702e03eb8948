# 200 times: kills a shim, a container's process, or (rarely) the agent. The seed says whom.
# Prints what the node holds before and after, when all services run.

different() {
    ls -l /proc/[0-9]*/ns/$1 2>/dev/null | awk '{ print $NF }' | sort -u | wc -l
}

counts() {
    shims=$(grep -lx containerd-shim /proc/[0-9]*/comm 2>/dev/null | cut -d/ -f3)
    echo "services $(pidof sleep | wc -w)" \
        "mounts $(wc -l < /proc/1/mountinfo)" \
        "cgroups $(find /proc/1/root/sys/fs/cgroup -type d | wc -l)" \
        "mount-namespaces $(different mnt)" \
        "network-namespaces $(different net)" \
        "links $(wc -l < /proc/1/net/dev)" \
        "processes-of-shims $(echo $shims | wc -w)" \
        "files-of-shims $(for shim in $shims; do ls /proc/$shim/fd 2>/dev/null; done | wc -l)" \
        "files-of-init $(ls /proc/1/fd | wc -l)" \
        "run $(find /proc/1/root/run/holdfast | wc -l)" \
        "bundles $(find /proc/1/root/var/lib/holdfast/containers | wc -l)"
}

# What it holds when it holds the same twice: what is on its way is counted by chance.
held() {
    while [ "$(pidof sleep | wc -w)" -lt 50 ] || [ -z "$(pidof holdfastd)" ]; do usleep 500000; done
    counted=
    while now=$(counts) && [ "$now" != "$counted" ]; do
        counted=$now
        usleep 5000000
    done
    echo "$1: $counted"
}

# What is opened or written at the first line is there from now on.
killed=0
echo 0 > /killed
echo 'kills: none yet'
held before
awk -v seed="$SEED" 'BEGIN { srand(seed); for (n = 0; n < 200; n++) print int(rand() * 20), int(rand() * 1000) }' |
while read -r kind pick; do
    case $kind in
        0) victims=$(pidof holdfastd) ;;
        1?) victims=$(pidof sleep) ;;
        *) victims=$(grep -l 'bundles/s[0-9]' /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3) ;;
    esac
    set -- $victims
    [ $# -gt 0 ] || continue
    shift $((pick % $#))
    kill -9 "$1" && killed=$((killed + 1))
    echo "$killed" > /killed
    usleep 100000
done
echo "kills: $(cat /killed)"
held after
exec tail -f /dev/null
