# scripts/lib.sh: shared by scripts/run, scripts/test and scripts/bench (sourced, bash): packages, builds, progress lines.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STARTED=$SECONDS

# Packages to build and run (netbase: names of services, for `taut ss`); scripts/test needs TEST_PACKAGES too.
RUN_PACKAGES=(meson ninja-build gcc libc6-dev pkg-config libev-dev libinih-dev libjansson-dev libmnl-dev libmicrohttpd-dev libssl-dev
  libseccomp-dev libncurses-dev libcmocka-dev netbase python3 nginx-light curl jq netcat-openbsd iproute2 iputils-ping)
# What scripts/bench measures taut against, and its tools; a peer that is missing is left out.
BENCH_PACKAGES=(slirp4netns passt liblwip-dev ethtool)
TEST_PACKAGES=(clang libclang-rt-14-dev tshark iperf3 ethtool strace mandoc systemd procps tmux valgrind)
# Large ones, for scripts/test --full; their tests run wherever they are installed. Fonts: for the screenshots.
FULL_PACKAGES=(chromium fonts-dejavu-core prometheus)

say() { # MESSAGE...: a progress line with the time since the start
  printf '[%3d s] %s\n' $((SECONDS - STARTED)) "$*"
}

have_package() { # PACKAGE: installed
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_missing() { # PACKAGE...: installs what is missing; only as root
  local missing=() p denied=
  for p in "$@"; do
    have_package "$p" || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    say "no apt-get here; these Debian packages (or the like) must be there already: ${missing[*]}"
    return 0
  fi
  if [ "$(id -u)" != 0 ]; then
    say "missing packages: ${missing[*]}"
    say "install them first: apt-get install --no-install-recommends ${missing[*]}"
    return 1
  fi
  say "installing ${#missing[@]} packages: ${missing[*]}"
  # Packages with services (nginx) are not to start them here: a policy of our own, away again when we are done.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    denied=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' >$denied && chmod 755 $denied
  fi
  local log status=0
  log=$(mktemp)
  { apt-get update -q &&
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1 </dev/null || status=$?
  [ -z "$denied" ] || rm -f "$denied"
  if [ $status != 0 ]; then
    tail -n 20 "$log"
    say "apt-get failed with status $status; the whole log: $log"
    return 1
  fi
  rm -f "$log"
}

setup_build() { # DIRECTORY [MESON OPTION...]: configures it if it is not
  local dir=$1
  shift
  [ -f "$dir/build.ninja" ] || meson setup "$dir" "$ROOT" "$@" >"$dir.log" 2>&1 ||
    { tail -n 30 "$dir.log"; say "meson setup failed; the whole log: $dir.log"; return 1; }
}

compile() { # DIRECTORY [TARGET...]: builds it
  local dir=$1
  shift
  ninja -C "$dir" "$@" >"$dir.log" 2>&1 || { tail -n 40 "$dir.log"; say "build failed; the whole log: $dir.log"; return 1; }
}

build_plain() { # the build that is used
  say "building (gcc, optimised) into build/"
  setup_build "$ROOT/build" -Dbuildtype=debugoptimized && compile "$ROOT/build" "$@"
}

build_asan() { # with address and undefined-behaviour sanitizers; little optimised, as compiling takes longer than the tests
  say "building (gcc, sanitizers) into build-asan/"
  setup_build "$ROOT/build-asan" -Dbuildtype=debug -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false &&
    compile "$ROOT/build-asan" "$@"
}

build_clang() { # does clang take it too? Nothing of it is run
  say "building (clang) into build-clang/"
  CC=clang setup_build "$ROOT/build-clang" -Dbuildtype=debug && compile "$ROOT/build-clang" "$@"
}
