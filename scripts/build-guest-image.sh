#!/usr/bin/env bash
# Builds the demo guest's disk image from Debian packages and the files in guest/.
#
#   scripts/build-guest-image.sh OUT.qcow2 [--with-agent]
#
# With the agent, QEMU's guest agent runs in it, and its disk has a second partition, with an ext4 file system labelled
# TVDATA: unlike the FAT that it boots from, it can be frozen.
#
# Kernel: Debian's linux-image, fetched and unpacked, not installed. User space: busybox-static as the initial RAM disk,
# with the few kernel modules named in guest/modules. Both lie on a FAT partition that syslinux boots from, or systemd-boot
# where the firmware is UEFI; the guest also keeps its own notes there. Needs no root, no loop device and no mount.
#
# The fetched kernel stays in .cache/guest. OUT is made again only when the kernel, guest/ or this script has changed.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT CACHE=$ROOT/.cache/guest KERNEL_PACKAGE=${KERNEL_PACKAGE:-linux-image-cloud-amd64}
readonly DISK_MIB=32 PARTITION_START_SECTORS=2048 SECTOR_BYTES=512
readonly MBR=/usr/lib/syslinux/mbr/mbr.bin
readonly UEFI_LOADER=/usr/lib/systemd/boot/efi/systemd-bootx64.efi
readonly DATA_MIB=16 AGENT_PACKAGE=qemu-guest-agent AGENT_MODULES='virtio_console crc32c_generic ext4'
WITH_AGENT=

die() {
  echo "build-guest-image.sh: $*" >&2
  exit 1
}

main() {
  [ $# = 1 ] || { [ $# = 2 ] && [ "$2" = --with-agent ]; } ||
    die "usage: scripts/build-guest-image.sh OUT.qcow2 [--with-agent]"
  local out inputs
  out=$(realpath -m -- "$1")
  WITH_AGENT=${2:-}
  check_tools
  mkdir -p "$CACHE" "$(dirname "$out")"
  exec 9>"$CACHE/.lock"
  flock -w 600 9 || die "another build holds $CACHE/.lock for more than 600 s."
  fetch_kernel
  [ -z "$WITH_AGENT" ] || fetch_agent
  inputs=$(checksum_of_inputs)
  if [ -s "$out" ] && [ "$(cat "$out.inputs" 2>/dev/null)" = "$inputs" ]; then
    return
  fi
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  unpack_kernel
  make_initrd
  make_disk
  qemu-img convert -f raw -O qcow2 -c "$WORK/disk.raw" "$out.part"
  mv "$out.part" "$out"
  echo "$inputs" >"$out.inputs"
  echo "Built $out ($(du -h "$out" | cut -f1))."
}

check_tools() {
  local tool
  for tool in busybox cpio dpkg-deb flock mcopy mformat mmd qemu-img sfdisk syslinux; do
    command -v "$tool" >/dev/null || die "$tool is not installed; run scripts/setup.sh first."
  done
  [ -s "$UEFI_LOADER" ] || die "$UEFI_LOADER is missing; run scripts/setup.sh first."
  # To its end: with -q, grep may end first, busybox by SIGPIPE, and pipefail would call that a lack.
  busybox --list | grep -x udhcpc >/dev/null || die "busybox has no udhcpc; the package busybox-static is needed."
}

# The newest kernel, once; a kernel that is there stays, so that a build neither needs the network nor changes by itself.
fetch_kernel() {
  local package
  DEB=$(find "$CACHE" -name "$(kernel_pattern)" | sort -V | tail -n 1)
  [ -z "$DEB" ] || return 0
  package=$(apt-cache depends "$KERNEL_PACKAGE" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  [ -n "$package" ] || die "apt knows no kernel behind $KERNEL_PACKAGE; run apt-get update."
  echo "Fetching $package."
  # The sandbox user of apt cannot write here; fetching as ourselves is what is wanted.
  (cd "$CACHE" && apt-get -qq -o APT::Sandbox::User=root download "$package") || die "$package could not be fetched."
  DEB=$(find "$CACHE" -name "$(kernel_pattern)" | sort -V | tail -n 1)
}

# QEMU's guest agent, once, as the kernel. What it is linked against, QEMU itself needs on this machine too.
fetch_agent() {
  AGENT_DEB=$(find "$CACHE" -name "${AGENT_PACKAGE}_*_amd64.deb" | sort -V | tail -n 1)
  [ -z "$AGENT_DEB" ] || return 0
  echo "Fetching $AGENT_PACKAGE."
  (cd "$CACHE" && apt-get -qq -o APT::Sandbox::User=root download "$AGENT_PACKAGE") ||
    die "$AGENT_PACKAGE could not be fetched."
  AGENT_DEB=$(find "$CACHE" -name "${AGENT_PACKAGE}_*_amd64.deb" | sort -V | tail -n 1)
}

kernel_pattern() {
  case $KERNEL_PACKAGE in
    *cloud*) echo 'linux-image-*-cloud-amd64_*.deb' ;;
    *) echo 'linux-image-*[0-9]-amd64_*.deb' ;;
  esac
}

checksum_of_inputs() {
  {
    echo "$KERNEL_PACKAGE" "$(basename "$DEB")" "$WITH_AGENT" "$(basename "${AGENT_DEB:-}")"
    sha256sum "$(command -v busybox)" "$MBR" "$UEFI_LOADER" "${BASH_SOURCE[0]}" "$ROOT"/guest/* | cut -d' ' -f1
  } | sha256sum | cut -d' ' -f1
}

unpack_kernel() {
  mkdir "$WORK/kernel"
  dpkg-deb --fsys-tarfile "$DEB" |
    tar -x -C "$WORK/kernel" --wildcards './boot/vmlinuz-*' './lib/modules/*/kernel/*' './lib/modules/*/modules.*'
  VERSION=$(ls "$WORK/kernel/lib/modules")
}

make_initrd() {
  local tree=$WORK/tree applet
  mkdir -p "$tree"/{bin,dev,disk,etc/acpi/PWRF,proc,root,run,sys,tmp,www/cgi-bin}
  ln -s bin "$tree/sbin"
  cp "$(command -v busybox)" "$tree/bin/busybox"
  for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
  done
  install -m 755 "$ROOT/guest/init" "$tree/init"
  install -m 755 "$ROOT/guest/udhcpc.script" "$tree/etc/udhcpc.script"
  install -m 755 "$ROOT/guest/power-button" "$tree/etc/acpi/PWRF/00000080"
  install -m 755 "$ROOT/guest/index.cgi" "$tree/www/cgi-bin/index.cgi"
  install -m 644 "$ROOT/guest/modules" "$tree/etc/modules"
  [ -z "$WITH_AGENT" ] || add_agent "$tree"
  ln -s /run/guest/meta-data /run/guest/user-data /run/guest/network-config "$tree/www/"
  copy_modules "$tree"
  # Not compressed: an emulated processor reads faster than it unpacks.
  (cd "$tree" && find . -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc --owner 0:0) >"$WORK/initrd"
}

# The agent, the libraries that it names, and the modules for its channel and for a file system that it can freeze.
add_agent() {
  local tree=$1 unpacked=$WORK/agent library
  mkdir "$unpacked"
  dpkg-deb --fsys-tarfile "$AGENT_DEB" | tar -x -C "$unpacked" ./usr/sbin/qemu-ga
  install -m 755 "$unpacked/usr/sbin/qemu-ga" "$tree/bin/qemu-ga"
  ldd "$unpacked/usr/sbin/qemu-ga" | grep -oE '/[^ ]+' | while read -r library; do
    install -D -m 755 "$(realpath "$library")" "$tree$library"
  done
  # shellcheck disable=SC2086 # one word per module
  printf '%s\n' $AGENT_MODULES >>"$tree/etc/modules"
}

# The modules of guest/modules and what they depend on, with an index of just these.
copy_modules() {
  local tree=$1 name path base=lib/modules/$VERSION
  busybox depmod -b "$WORK/kernel" "$VERSION"
  mkdir -p "$tree/$base"
  cp "$WORK/kernel/$base"/modules.{order,builtin} "$tree/$base/"
  while read -r name; do
    # "path: path-of-a-dependency …"; a driver that this kernel has built in, or has not, is no error
    sed -nE "\\#(^|/)$name\.ko:#{s/://;s/ /\n/g;p}" "$WORK/kernel/$base/modules.dep"
  done <"$tree/etc/modules" | sort -u | while read -r path; do
    install -D -m 644 "$WORK/kernel/$base/$path" "$tree/$base/$path"
  done
  busybox depmod -b "$tree" "$VERSION"
}

make_disk() {
  local disk=$WORK/disk.raw offset=$((PARTITION_START_SECTORS * SECTOR_BYTES)) sectors
  sectors=$((DISK_MIB * 1048576 / SECTOR_BYTES - PARTITION_START_SECTORS))
  truncate -s "${DISK_MIB}M" "$disk"
  if [ -n "$WITH_AGENT" ]; then
    truncate -s "$((DISK_MIB + DATA_MIB))M" "$disk"
    printf '%s\n' "$PARTITION_START_SECTORS,$sectors,c,*" "$((PARTITION_START_SECTORS + sectors)),,83" | sfdisk -q "$disk"
    mkfs.ext4 -q -L TVDATA -E "offset=$((DISK_MIB * 1048576))" "$disk" "${DATA_MIB}M"
  else
    echo "$PARTITION_START_SECTORS,,c,*" | sfdisk -q "$disk"
  fi
  dd if="$MBR" of="$disk" conv=notrunc status=none
  export MTOOLS_SKIP_CHECK=1
  mformat -i "$disk@@$offset" -v TASKVISOR -h 255 -s 63 -T "$sectors" -H "$PARTITION_START_SECTORS" ::
  mcopy -i "$disk@@$offset" "$WORK/kernel/boot/vmlinuz-$VERSION" ::vmlinuz
  mcopy -i "$disk@@$offset" "$WORK/initrd" ::initrd
  mcopy -i "$disk@@$offset" "$ROOT/guest/syslinux.cfg" ::syslinux.cfg
  install_uefi_loader "$disk@@$offset"
  syslinux --install --offset "$offset" "$disk"
}

# By the name that firmware looks for on a disk that it knows nothing of. The same kernel, with the same words.
install_uefi_loader() {
  local partition=$1
  mkdir -p "$WORK/loader/entries"
  echo 'timeout 0' >"$WORK/loader/loader.conf"
  sed -nE "s/^ *append (.*)/title guest\nlinux \/vmlinuz\ninitrd \/initrd\noptions \1/p" "$ROOT/guest/syslinux.cfg" \
    >"$WORK/loader/entries/guest.conf"
  mmd -i "$partition" ::EFI ::EFI/BOOT
  mcopy -i "$partition" "$UEFI_LOADER" ::EFI/BOOT/BOOTX64.EFI
  mcopy -s -i "$partition" "$WORK/loader" ::loader
}

main "$@"
