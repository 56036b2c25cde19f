/** The room rules (ARCHITECTURE.md): imports point down, each room has one door, each third-party package lives behind its room. */
const MAY_ENTER = {
  foundation: [],
  codec: ['foundation'],
  storage: ['foundation'],
  tokens: ['foundation', 'codec'],
  mail: ['foundation', 'codec', 'storage'],
  timestamp: ['foundation', 'codec', 'tokens'],
  access: ['foundation', 'codec', 'storage', 'tokens', 'mail'],
  administration: ['foundation', 'storage', 'mail', 'access'],
  audit: ['foundation', 'codec', 'storage', 'tokens', 'access'],
  configuration: ['foundation', 'codec', 'access'],
  keys: ['foundation', 'codec', 'storage', 'tokens', 'access'],
  certificates: ['foundation', 'codec', 'storage', 'tokens', 'access', 'keys'],
  staff: ['foundation', 'storage', 'mail', 'access', 'directory'],
  directory: ['foundation', 'codec', 'storage', 'access', 'certificates'],
  devices: ['foundation', 'codec', 'storage', 'tokens', 'access', 'mail', 'certificates'],
  custody: ['foundation', 'codec', 'storage', 'tokens', 'access', 'administration', 'mail', 'keys', 'certificates', 'devices'],
  pdf: ['foundation', 'codec', 'storage', 'tokens', 'timestamp', 'access', 'keys', 'certificates'],
  interop: ['foundation', 'codec', 'access', 'keys', 'certificates', 'devices', 'pdf'],
  http: ['foundation', 'codec', 'access', 'keys', 'certificates', 'tokens'],
};
const rooms = Object.entries(MAY_ENTER).map(([room, below]) => ({
  name: `${room}-looks-down`,
  severity: 'error',
  from: { path: `^src/${room}/` },
  to: { path: '^src/', pathNot: `^src/(${[room, ...below].join('|')})/` },
}));
const doors = Object.keys(MAY_ENTER).map((room) => ({
  name: `${room}-has-one-door`,
  severity: 'error',
  from: { path: '^(src|client)/', pathNot: `^src/${room}/` },
  // codec has a door per format.
  to: { path: `^src/${room}/`, pathNot: room === 'codec' ? '^src/codec/([a-z0-9-]+\\.ts$|[a-z0-9-]+/index\\.ts$)' : `^src/${room}/index\\.ts$` },
}));
const behind = (name, packages, allowed) => ({ name: `${name}-behind-one-room`, severity: 'error', from: { path: '^(src|client)/', pathNot: allowed }, to: { path: `node_modules/(${packages})/` } });
module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'foundation-and-codec-are-pure', severity: 'error', from: { path: '^src/(foundation|codec)/' }, to: { path: '^(fs|net|http|https|tls|child_process|worker_threads)', dependencyTypes: ['core'] } },
    { name: 'client-stands-alone', severity: 'error', from: { path: '^client/' }, to: { path: '^src/', pathNot: '^src/(foundation|codec)/' } },
    { name: 'server-knows-no-client', severity: 'error', from: { path: '^src/', pathNot: '^src/demo/' }, to: { path: '^client/' } },
    ...rooms,
    ...doors,
    behind('pkcs11js', 'pkcs11js', '^src/tokens/pkcs11/'),
    behind('database', 'typeorm|better-sqlite3|pg', '^src/storage/'),
    behind('nodemailer', 'nodemailer', '^src/mail/'),
    behind('prom-client', 'prom-client', '^src/http/'),
    behind('ldapts', 'ldapts', '^src/directory/ldap-directory\\.ts$'),
    behind('webauthn', '@simplewebauthn', '^src/administration/passkeys'),
    behind('shamir', 'shamir-secret-sharing', '^src/tokens/custody/shares\\.ts$'),
    behind('pdf-lib', 'pdf-lib', '^src/codec/printed-pages\\.ts$'),
    behind('openid-client', 'openid-client', '^src/staff/identity-provider\\.ts$'),
    behind('multipart', '@fastify/multipart', '^src/http/'),
    behind('yazl', 'yazl', '^src/(pdf|audit/evidence)/'),
    behind('x509', '@peculiar/x509', '^src/codec/x509/library\\.ts$'),
  ],
  options: { tsConfig: { fileName: 'tsconfig.json' }, tsPreCompilationDeps: true, doNotFollow: { path: 'node_modules' }, enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'require', 'node', 'default'] } },
};
