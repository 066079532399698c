#!/usr/bin/env bash
# Builds a Debian guest with cloud-init, as a hosting cloud's images have it: what the slow tests boot.
#
#   scripts/build-debian-image.sh OUT.qcow2
#
# Debian's packages, from where this machine's own apt has them, unpacked by mmdebstrap. A FAT partition holds kernel and
# initial RAM disk, and syslinux boots from it; an ext4 partition is the root, which grows at first boot. Needs root and
# mmdebstrap; no loop device and no mount of an image.
#
# OUT is made again only when this script has changed. It is large and takes minutes, so it lies well outside the tree.
set -euo pipefail

readonly PARTITION_START_SECTORS=2048 BOOT_MIB=64 ROOT_MIB=1400 SECTOR_BYTES=512
readonly MBR=/usr/lib/syslinux/mbr/mbr.bin
# By need: a kernel that boots, cloud-init and what it calls, a network as Debian's own images have it, a way in.
readonly PACKAGES=(
  systemd-sysv dbus udev kmod linux-image-cloud-amd64 initramfs-tools
  cloud-init cloud-guest-utils e2fsprogs fdisk
  netplan.io iproute2
  openssh-server sudo
)
readonly COMMAND_LINE="root=LABEL=root ro console=tty0 console=ttyS0 mitigations=off audit=0 no_timer_check 8250.nr_uarts=1 i8042.noaux cryptomgr.notests"

die() {
  echo "build-debian-image.sh: $*" >&2
  exit 1
}

main() {
  [ $# = 1 ] || die "usage: scripts/build-debian-image.sh OUT.qcow2"
  local out inputs
  out=$(realpath -m -- "$1")
  check_tools
  mkdir -p "$(dirname "$out")"
  exec 9>"$out.lock"
  flock -w 1800 9 || die "another build holds $out.lock for more than 1800 s."
  inputs=$(sha256sum "${BASH_SOURCE[0]}" | cut -d' ' -f1)
  if [ -s "$out" ] && [ "$(cat "$out.inputs" 2>/dev/null)" = "$inputs" ]; then
    return
  fi
  WORK=$(mktemp -d)
  trap 'rm -rf --one-file-system "$WORK"' EXIT
  make_tree
  make_disk
  qemu-img convert -f raw -O qcow2 -c "$WORK/disk.raw" "$out.part"
  mv "$out.part" "$out"
  echo "$inputs" >"$out.inputs"
  echo "Built $out ($(du -h "$out" | cut -f1))."
}

check_tools() {
  local tool
  [ "$(id -u)" = 0 ] || die "must run as root: it installs packages into a directory."
  for tool in mmdebstrap flock mcopy mformat mke2fs qemu-img sfdisk syslinux; do
    command -v "$tool" >/dev/null || die "$tool is not installed; run scripts/setup.sh first."
  done
}

make_tree() {
  local IFS=, suite
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  list_sources >"$WORK/sources"
  apt-config dump Acquire | grep -i '::proxy' >"$WORK/proxy" || true
  install_hooks
  # `root`: all that is wanted is a tree with the right owners, and root may make one.
  mmdebstrap --quiet --mode=root --variant=minbase --include="${PACKAGES[*]}" \
    --aptopt="$WORK/proxy" --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --customize-hook="$WORK/customize" "$suite" "$WORK/tree" "$WORK/sources"
}

# Debian's own sources of this machine, in apt's newer form or its older one.
list_sources() {
  local file
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    if [ -s "$file" ]; then
      cat "$file"
      return
    fi
  done
  die "apt has neither /etc/apt/sources.list.d/debian.sources nor /etc/apt/sources.list here."
}

# What is not in a package. Host keys and machine ids are each guest's own, so the image has none.
install_hooks() {
  cat >"$WORK/customize" <<'HOOK'
#!/bin/sh
set -eu
tree=$1
echo 'LABEL=root / ext4 errors=remount-ro 0 1' >"$tree/etc/fstab"
echo localhost >"$tree/etc/hostname"
: >"$tree/etc/machine-id"
# It has no locales that cloud-init could make.
echo 'locale: false' >"$tree/etc/cloud/cloud.cfg.d/90_image.cfg"
rm -f "$tree"/etc/ssh/ssh_host_* "$tree/var/lib/dbus/machine-id" "$tree"/etc/apt/apt.conf.d/99mmdebstrap
# Nobody waits for these in a guest that lives for minutes.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
  fstrim.timer; do
  ln -sf /dev/null "$tree/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/systemd-networkd.service "$tree/etc/systemd/system/multi-user.target.wants/"
rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/*.bin
HOOK
  chmod +x "$WORK/customize"
}

make_disk() {
  local disk=$WORK/disk.raw root_start=$((PARTITION_START_SECTORS + BOOT_MIB * 2048))
  local boot=$((PARTITION_START_SECTORS * SECTOR_BYTES)) kernel initrd
  kernel=$(find "$WORK/tree/boot" -name 'vmlinuz-*') initrd=$(find "$WORK/tree/boot" -name 'initrd.img-*')
  truncate -s "$((BOOT_MIB + ROOT_MIB + 2))M" "$disk"
  printf '%s\n' "$PARTITION_START_SECTORS,$((BOOT_MIB * 2048)),c,*" "$root_start,,L" | sfdisk -q "$disk"
  dd if="$MBR" of="$disk" conv=notrunc status=none
  export MTOOLS_SKIP_CHECK=1
  mformat -i "$disk@@$boot" -v BOOT -h 255 -s 63 -T $((BOOT_MIB * 2048)) -H "$PARTITION_START_SECTORS" ::
  printf 'default debian\nlabel debian\n  kernel vmlinuz\n  initrd initrd\n  append %s\n' "$COMMAND_LINE" >"$WORK/syslinux.cfg"
  mcopy -i "$disk@@$boot" "$kernel" ::vmlinuz
  mcopy -i "$disk@@$boot" "$initrd" ::initrd
  mcopy -i "$disk@@$boot" "$WORK/syslinux.cfg" ::syslinux.cfg
  syslinux --install --offset "$boot" "$disk"
  rm -f "$kernel" "$initrd"
  mke2fs -q -t ext4 -L root -d "$WORK/tree" -E "offset=$((root_start * SECTOR_BYTES)),lazy_itable_init=1" "$disk" "${ROOT_MIB}M"
}

main "$@"
