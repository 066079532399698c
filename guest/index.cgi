#!/bin/sh
# The page at /: what this guest is, one "name: value" a line. busybox httpd runs it in place of a missing index.html.
fact() {
  cat "$1" 2>/dev/null || echo unknown
}

printf 'Content-Type: text/plain\r\n\r\n'
cat <<PAGE
hostname: $(hostname)
instance-id: $(fact "$FACTS/instance-id")
address: $(fact "$FACTS/address")
mac: $(fact /sys/class/net/eth0/address)
mtu: $(fact /sys/class/net/eth0/mtu)
boots: $(fact "$DISK/boots")
first-instance-id: $(fact "$DISK/first-instance-id")
ssh-keys: $(wc -l </root/.ssh/authorized_keys)
kernel: $(uname -r)
memory-kib: $(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)
cpus: $(nproc)
uptime-s: $(cut -d' ' -f1 /proc/uptime)
PAGE
