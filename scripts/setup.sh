#!/usr/bin/env bash
# Prepares a Debian machine (or one of its kin) for Taskvisor: packages, and a virtual environment in .venv.
#
#   scripts/setup.sh            PYTHON=python3.12 scripts/setup.sh
#
# May be called as often as you like: when nothing is missing it does nothing and says nothing. Details of what it did
# are in .cache/setup.log.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT VENV=$ROOT/.venv CACHE=$ROOT/.cache PYTHON=${PYTHON:-python3}
readonly LOG=$CACHE/setup.log STAMP=$VENV/.taskvisor-setup
readonly APT_LOCK_LIMIT_S=300 SETUP_LOCK_LIMIT_S=900

# By need: libvirt and qemu, what is on fresh disks, LVM and Ceph (and, for tests, a cluster and a file system that shares
# blocks), Redis (and, for tests, its proxy, what reads compose files and what reads units), guests' screens in a browser (and,
# for tests, a browser), networks (and, for tests, a switch, clients of their services and what looks at links), the guest
# images, guests with UEFI, building libvirt-python.
readonly PACKAGES=(
  libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-utils
  util-linux e2fsprogs dosfstools
  lvm2 ceph-common qemu-block-extra ceph-mon ceph-osd xfsprogs
  redis-server haproxy docker-compose systemd
  novnc chromium
  dnsmasq-base bind9-dnsutils conntrack nftables iproute2 iputils-ping openvswitch-switch isc-dhcp-client ndisc6 tcpdump iperf3
  busybox-static cpio fdisk mtools syslinux syslinux-common mmdebstrap openssh-client
  ovmf systemd-boot-efi
  libvirt-dev pkg-config gcc libc6-dev
  ca-certificates curl make
)

die() {
  echo "setup.sh: $*" >&2
  exit 1
}

main() {
  local missing
  cd "$ROOT"
  [ -s requirements.lock ] || die "requirements.lock is missing; \`make lock\` writes it."
  missing=$(missing_packages)
  if [ -z "$missing" ] && venv_is_current; then
    return
  fi
  check_python
  mkdir -p "$CACHE"
  exec 9>"$CACHE/.setup.lock"
  flock -w "$SETUP_LOCK_LIMIT_S" 9 || die "another set-up holds $CACHE/.setup.lock for more than $SETUP_LOCK_LIMIT_S s."
  : >"$LOG"
  if [ -n "$missing" ]; then
    install_packages "$missing"
    check_python
  fi
  venv_is_current || make_venv
  echo "Set up. Details: ${LOG#"$ROOT"/}"
}

# Runs a command with its output in the log; on failure shows its end.
logged() {
  if ! "$@" >>"$LOG" 2>&1 9>&-; then
    echo "setup.sh: this failed: $*; the last lines of $LOG:" >&2
    tail -n 20 "$LOG" >&2
    exit 1
  fi
}

missing_packages() {
  local wanted=("${PACKAGES[@]}") package installed
  command -v dpkg-query >/dev/null || die "this is not Debian or one of its kin; install by hand: ${PACKAGES[*]}."
  if ! python_can_build_venvs; then
    wanted+=(python3 python3-venv python3-dev)
  fi
  installed=" $(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' 2>/dev/null | sed -n 's/^ii //p' | tr '\n' ' ')"
  for package in "${wanted[@]}"; do
    [[ $installed == *" $package "* ]] || printf '%s ' "$package"
  done
}

# Debian splits the parts needed for a virtual environment and for building extensions from python3; a Python from
# elsewhere has them.
python_can_build_venvs() {
  local program='import ensurepip, os, sysconfig; assert os.path.exists(sysconfig.get_path("include") + "/Python.h")'
  [ -x "$VENV/bin/python" ] || "$PYTHON" -c "$program" 2>/dev/null
}

install_packages() {
  local missing=$1
  [ "$(id -u)" = 0 ] || die "must run as root to install: $missing"
  echo "Installing Debian packages: $missing"
  forbid_services
  export DEBIAN_FRONTEND=noninteractive
  logged apt-get -q -o "DPkg::Lock::Timeout=$APT_LOCK_LIMIT_S" update
  # shellcheck disable=SC2086 # one word per package
  logged apt-get -q -y -o "DPkg::Lock::Timeout=$APT_LOCK_LIMIT_S" install --no-install-recommends $missing
}

# Debian starts what it installs. We run our own redis-server and libvirtd, and machines without systemd would be left
# with one that nobody stops; policy-rc.d is Debian's way to say no. One that is there already is the machine owner's.
forbid_services() {
  local policy=/usr/sbin/policy-rc.d
  [ ! -e $policy ] || return 0
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod +x $policy
}

check_python() {
  local version
  if ! command -v "$PYTHON" >/dev/null; then
    [ "$PYTHON" = python3 ] || die "there is no $PYTHON here."
    return 0 # Debian's will be installed
  fi
  version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || die "$PYTHON does not run."
  case $version in
    3.11 | 3.12 | 3.13) ;;
    *) die "Taskvisor needs Python 3.11, 3.12 or 3.13, and $PYTHON is $version; name another one by PYTHON=…" ;;
  esac
}

venv_is_current() {
  [ -x "$VENV/bin/python" ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$(checksum_of_inputs)" ]
}

# The path counts too: a virtual environment that was moved or copied points to where it came from.
checksum_of_inputs() {
  {
    echo "$ROOT"
    cat requirements.lock pyproject.toml
  } | sha256sum | cut -d' ' -f1
}

make_venv() {
  local version
  [ ! -L "$VENV" ] || die ".venv is a link: what is installed there is another tree's; remove it, and run this again."
  version=$("$PYTHON" -c 'import platform; print(platform.python_version())')
  if [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c "import platform; assert platform.python_version() == '$version'" 2>/dev/null; then
    echo "Bringing .venv up to date with requirements.lock."
    rm -f "$STAMP"
  else
    echo "Making .venv with Python $version from requirements.lock."
    logged "$PYTHON" -m venv --clear "$VENV"
  fi
  logged "$VENV/bin/python" -m pip install --disable-pip-version-check -r requirements.lock
  logged "$VENV/bin/python" -m pip install --disable-pip-version-check --no-deps -e .
  checksum_of_inputs >"$STAMP"
}

main "$@"
