#!/bin/sh
# Every check of the project: format and lint, types, room rules, generated files, unit, integration and end-to-end tests on SQLite and
# PostgreSQL, the demo. Ends with `N passed, N failed`. Called by ./ekms test, which has set `root`. Words after it go to Jest: fewer tests.
set -u
: "${root:?run ./ekms test}"
. "$root/deploy/setup.sh"
setup || exit $?
need_packages pg_virtualenv=postgresql-common /usr/lib/postgresql=postgresql pkcs11-tool=opensc pk12util=libnss3-tools cmsutil=libnss3-tools gpgsm=gpgsm gpg-agent=gpg-agent /usr/sbin/slapd=slapd ldapadd=ldap-utils chromium=chromium certutil=libnss3-tools age=age javac=default-jdk-headless /usr/share/java/pdfbox2.jar=libpdfbox2-java /usr/share/java/bcmail.jar=libbcmail-java qpdf=qpdf /usr/sbin/rsyslogd=rsyslog /var/lib/dpkg/info/rsyslog-openssl.list=rsyslog-openssl || exit $?
cd "$root" || exit 1
bin="$root/node_modules/.bin"
need_packages systemd-analyze=systemd || exit $?
need_packages ip=iproute2 nft=nftables openssl=openssl || exit $?
passed=0 failed=0

check() { # name, command…
  name=$1
  shift
  began=$(date +%s)
  if "$@" >"$root/.setup/check.log" 2>&1; then
    passed=$((passed + 1))
    say "ok: $name ($(($(date +%s) - began)) s)"
  else
    failed=$((failed + 1))
    say "FAILED: $name"
    tail -n 60 "$root/.setup/check.log" >&2
  fi
}


if [ $# = 0 ]; then
  check "format and lint (biome)" "$bin/biome" ci --error-on-warnings
  check "types (tsc)" "$bin/tsc" --noEmit -p tsconfig.json
  check "room rules (dependency-cruiser)" "$bin/node" "$bin/depcruise" --config .dependency-cruiser.cjs src client/src
fi

say "tests (jest), with a PostgreSQL of their own"
rm -f "$root/.setup/jest.json"
export root bin
pg_virtualenv -t sh -c '
  EKMS_TEST_POSTGRES="postgres://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/postgres"
  export EKMS_TEST_POSTGRES
  unset PGUSER PGPASSWORD PGHOST PGPORT PGDATABASE
  "$bin/node" "$bin/jest" --maxWorkers=3 --json --outputFile="$root/.setup/jest.json" "$@" >&2' jest "$@"
counts=$("$bin/node" -e 'const r = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")); const broken = r.testResults.filter((f) => f.status === "failed" && f.assertionResults.length === 0).length; console.log(r.numPassedTests, r.numFailedTests + broken)' "$root/.setup/jest.json" 2>/dev/null) || counts="0 1"
passed=$((passed + ${counts% *}))
failed=$((failed + ${counts#* }))

if [ $# = 0 ]; then
  check "the demo, from nothing to the last step" "$root/ekms" demo --once
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
