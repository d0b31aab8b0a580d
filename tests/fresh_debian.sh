#!/usr/bin/env bash
# Runs the tests on a fresh Debian 12 with nothing preinstalled: makes one in a temporary folder, clones this repository's
# last commit into it and runs launch/test.sh there. Needs root, debootstrap and about 3 GB. Leaves nothing behind.
#
#   tests/fresh_debian.sh [COMMAND…]     default: launch/test.sh
#
# MIRROR names the Debian mirror (default: the one that this machine's apt uses), TMPDIR where the folder is made.
# The golden files and data sets beside the repository (../shared) are copied too, where they exist.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly release=bookworm
readonly default_mirror=http://deb.debian.org/debian
command=("${@:-launch/test.sh}")

fail() {
  echo "fresh_debian.sh: $1" >&2
  exit 1
}

mirror_of_this_machine() {
  # shellcheck disable=SC2016  # apt expands these names
  apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(IDENTIFIER) $(REPO_URI)' 2>/dev/null |
    sed -n "s/^$release main Packages //p" | head -n 1
}

[[ $EUID -eq 0 ]] || fail "needs root, for debootstrap and chroot"
for program in debootstrap git unshare; do
  command -v "$program" >/dev/null || fail "$program is missing"
done
mirror="${MIRROR:-$(mirror_of_this_machine)}"
mirror="${mirror:-$default_mirror}"

root="$(mktemp --directory --tmpdir fresh-debian-XXXXXX)"
chmod 755 "$root"  # apt downloads as a user of its own
# Mounts live in a namespace of their own (below) and are gone when it ends, so nothing of this machine is under $root.
trap 'rm -rf --one-file-system "$root"' EXIT

echo "Debian $release from $mirror in $root"
debootstrap --variant=minbase "$release" "$root" "$mirror" >"$root.log" 2>&1 ||
  { tail -n 20 "$root.log" >&2; fail "debootstrap failed"; }
rm -f "$root.log"

# How this machine reaches its mirror: proxies and the like, but no repositories of its own.
apt-config dump | grep -E '^Acquire::(http|https|Retries|ForceIPv[46])\b' >"$root/etc/apt/apt.conf.d/99host" || true
cp /etc/resolv.conf /etc/hosts "$root/etc/"

mkdir "$root/project"
git clone --quiet --no-hardlinks . "$root/project/quadmamba"
for folder in golden data; do
  if [[ -d ../shared/$folder ]]; then
    mkdir -p "$root/project/shared"
    cp -r "../shared/$folder" "$root/project/shared/"
  fi
done

# shellcheck disable=SC2016  # expanded by the inner shell
unshare --mount --propagation private bash -c '
  set -euo pipefail
  root="$1"
  shift
  mount -t proc proc "$root/proc"
  mount --bind /sys "$root/sys"
  mkdir -p "$root/dev/shm"
  mount -t tmpfs tmpfs "$root/dev/shm"
  exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 CI="${CI:-}" \
    http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" no_proxy="${no_proxy:-}" \
    chroot "$root" bash -c "cd /project/quadmamba && exec \"\$@\"" fresh_debian "$@"
' fresh_debian "$root" "${command[@]}"
