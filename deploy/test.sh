#!/bin/sh
# Every check of the project: format and lint, types, room rules, generated files, unit, integration and end-to-end tests on SQLite and
# PostgreSQL, the demo. Ends with `N passed, N failed`. Called by ./ekms test, which has set `root`. Words after it go to Jest: fewer tests.
set -u
: "${root:?run ./ekms test}"
. "$root/deploy/setup.sh"
setup_packages || exit $?
# The tests' own packages are the larger half, and come while modules are installed and built.
(need_packages pg_virtualenv=postgresql-common /usr/lib/postgresql=postgresql pkcs11-tool=opensc pk12util=libnss3-tools cmsutil=libnss3-tools gpgsm=gpgsm gpg-agent=gpg-agent /usr/sbin/slapd=slapd ldapadd=ldap-utils chromium=chromium certutil=libnss3-tools age=age javac=default-jdk-headless /usr/share/java/pdfbox2.jar=libpdfbox2-java /usr/share/java/bcmail.jar=libbcmail-java qpdf=qpdf /usr/sbin/rsyslogd=rsyslog /var/lib/dpkg/info/rsyslog-openssl.list=rsyslog-openssl systemd-analyze=systemd ip=iproute2 nft=nftables) &
packages=$!
setup || exit $?
wait "$packages" || exit $?
cd "$root" || exit 1
bin="$root/node_modules/.bin"
passed=0 failed=0

begin() { # word, command…: a check beside what follows; `tell` waits for it
  word=$1
  shift
  rm -f "$root/.setup/$word.ended"
  {
    began=$(date +%s)
    "$@" >"$root/.setup/$word.log" 2>&1
    echo "$? $(($(date +%s) - began))" >"$root/.setup/$word.ended"
  } &
}

tell() { # word, what it is called
  wait
  read -r status seconds <"$root/.setup/$1.ended" || status=1
  if [ "$status" = 0 ]; then
    passed=$((passed + 1))
    say "ok: $2 ($seconds s)"
  else
    failed=$((failed + 1))
    say "FAILED: $2"
    tail -n 60 "$root/.setup/$1.log" >&2
  fi
}

# Of one thread each, so they run beside the tests.
if [ $# = 0 ]; then
  begin format "$bin/biome" ci --error-on-warnings
  begin types "$bin/tsc" --noEmit -p tsconfig.json
  begin rooms "$bin/node" "$bin/depcruise" --config .dependency-cruiser.cjs src client/src
fi

say "tests (jest), with a PostgreSQL of their own"
rm -rf "$root/.setup/jest.json" "$root/.setup/rsa-keys"
export root bin
pg_virtualenv -t sh -c '
  EKMS_TEST_POSTGRES="postgres://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/postgres"
  export EKMS_TEST_POSTGRES
  unset PGUSER PGPASSWORD PGHOST PGPORT PGDATABASE
  "$bin/node" "$bin/jest" --maxWorkers=3 --json --outputFile="$root/.setup/jest.json" "$@" >&2' jest "$@"
jest=$?
# A file that failed though none of its tests did (it does not load, its afterAll throws) is a failure, and so is whatever else Jest ended with.
counts=$("$bin/node" -e 'const r = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")); const broken = r.testResults.filter((f) => f.status === "failed" && !f.assertionResults.some((a) => a.status === "failed")).length; console.log(r.numPassedTests, r.numFailedTests + broken, r.numPendingTests + r.numTodoTests)' "$root/.setup/jest.json" 2>/dev/null) || counts="0 1 0"
read -r ok bad skipped <<EOF
$counts
EOF
[ "$jest" = 0 ] || [ "$bad" != 0 ] || bad=1
passed=$((passed + ok))
failed=$((failed + bad))

if [ $# = 0 ]; then
  tell format "format and lint (biome)"
  tell types "types (tsc)"
  tell rooms "room rules (dependency-cruiser)"
  begin demo "$root/ekms" demo --once
  tell demo "the demo, from nothing to the last step"
fi

echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
