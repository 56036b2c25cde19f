import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  AppCredentials,
  type Audience,
  Budgets,
  ClientVersions,
  DeviceGuard,
  DocumentReader,
  EmailChallenge,
  Employees,
  IsolationGuard,
  NetworkPolicies,
  Origins,
  RowSeal,
  SessionGuard,
  type SessionLife,
  Sessions,
  SharedMailboxes,
  Sites,
  type Surroundings,
  ThisMachine,
} from './access/index.js';
import {
  AdministratorSignIn,
  Administrators,
  Approvals,
  BreakGlass,
  Invitations,
  Passkeys,
  SpendingStorage,
} from './administration/index.js';
import {
  AuditKeyRotation,
  AuditReader,
  AuditReports,
  AuditSearch,
  BoundedAuditLog,
  type Breach,
  Checkpoints,
  ClockWatch,
  DurableAuditLog,
  Erasure,
  EvidenceDesk,
  Forwarder,
  HeadArchive,
  KeyUses,
  keepAuditKey,
  keepWitnessKey,
  LogAcceptances,
  LogBook,
  LogCopy,
  LogStanding,
  LogTree,
  Pruning,
  renameAuditKey,
  SealedEntries,
  SearchIndex,
  SearchThread,
  type TimeStamps,
  Veil,
  WitnessedLogs,
  type Witnesses,
} from './audit/index.js';
import {
  AddressCertificates,
  CertificateDirectory,
  InfrastructureCertificates,
  KeyIssuance,
  KeyRenewal,
  KeyReplacement,
  PremadeKeys,
  RevocationLists,
} from './certificates/index.js';
import { type Configuration, configurationFile, policyOf } from './configuration/index.js';
import {
  AcceptedTransfers,
  AuthorityRetirement,
  type BackupSettings,
  Backups,
  DocumentRecovery,
  EscrowJournal,
  FormerKeys,
  isMounted,
  KekRotation,
  KeyImports,
  KeyLives,
  KeyTransfers,
  RecoveryAgentRegister,
  RecoveryCases,
  settleRestored,
  TokenKeyRotation,
  TransferKeys,
} from './custody/index.js';
import {
  Announcements,
  DeviceRegistry,
  DeviceRevocations,
  EnrolmentDesk,
  RegisteredDevices,
  readDeviceAuthorities,
} from './devices/index.js';
import { CsvDirectory, type Directory, DirectorySync, LdapDirectory } from './directory/index.js';
import { base64url, type Clock, isFault, type Json, type Storage, SystemClock, sha256 } from './foundation/index.js';
import { Health, type Pages, readPages } from './http/index.js';
import { KeyVault, OnePlace, ReadyPool, type SecondPlace } from './keys/index.js';
import { MaildirTransport, MailQueue, type MailTransport, SmtpTransport } from './mail/index.js';
import { foreignCertificate, PdfDesk, PdfWorkers } from './pdf/index.js';
import type { StaffDoors } from './staff/index.js';
import { openStorage } from './storage/index.js';
import { Authorities, type AuthorityName, type AuthorityUrls, type Token, TokenProcess } from './tokens/index.js';
import { sinksOf } from './wiring/sinks.js';
import { staffDoors } from './wiring/staff.js';
import { tokenFiles } from './wiring/token-place.js';
import { headMail, timeStampsOf, witnessesOf } from './wiring/witnesses.js';

/** Where this installation's own files lie. */
export interface Installation {
  /** Project root, or where it was installed. */
  root: string;
}

export interface House {
  configuration: Configuration;
  clock: Clock;
  storage: Storage;
  audit: BoundedAuditLog;
  auditReader: AuditReader;
  logStanding: LogStanding;
  logBook: LogBook;
  searchIndex: SearchIndex;
  auditSearch: AuditSearch;
  auditReports: AuditReports;
  evidence: EvidenceDesk;
  erasure: Erasure;
  pruning: Pruning;
  sealedEntries: SealedEntries;
  keyUses: KeyUses;
  forwarder: Forwarder;
  witnesses: Witnesses;
  witnessedLogs: WitnessedLogs;
  logAcceptances: LogAcceptances;
  headArchive: HeadArchive;
  timeStamps: TimeStamps;
  clockWatch: ClockWatch;
  checkpoints: Checkpoints;
  token: Token;
  seal: RowSeal;
  authorities: Authorities;
  backups: Backups;
  second: SecondPlace;
  /** Of the log at the second place, where there is one. */
  logCopy: LogCopy | undefined;
  imports: KeyImports;
  lives: KeyLives;
  documentRecovery: DocumentRecovery;
  reader: DocumentReader;
  mailboxes: SharedMailboxes;
  recoveries: RecoveryCases;
  recoveryAgents: RecoveryAgentRegister;
  transfers: KeyTransfers;
  transferKeys: TransferKeys;
  acceptedTransfers: AcceptedTransfers;
  rotation: KekRotation;
  formerKeys: FormerKeys;
  tokenKeys: TokenKeyRotation;
  authorityRetirement: AuthorityRetirement;
  auditKeyRotation: AuditKeyRotation;
  /** Filled by whoever serves: gives every listener a new TLS key at once. */
  tls: { renew?: () => Promise<void> };
  apps: AppCredentials;
  employees: Employees;
  deviceGuard: DeviceGuard;
  networks: NetworkPolicies;
  isolation: IsolationGuard;
  budgets: Budgets;
  origins: Origins;
  sessions: Sessions;
  passkeys: Passkeys;
  administrators: Administrators;
  signIn: AdministratorSignIn;
  invitations: Invitations;
  approvals: Approvals;
  breakGlass: BreakGlass;
  sessionGuard: SessionGuard;
  staff: StaffDoors;
  pages: Pages;
  registry: DeviceRegistry;
  registered: RegisteredDevices;
  announcements: Announcements;
  desk: EnrolmentDesk;
  vault: KeyVault;
  pool: ReadyPool;
  issuance: KeyIssuance;
  replacement: KeyReplacement;
  renewal: KeyRenewal;
  revocations: RevocationLists;
  directory: CertificateDirectory;
  pdf: PdfDesk;
  addressCertificates: AddressCertificates;
  premade: PremadeKeys;
  /** Where the organisation's own directory is configured. */
  directorySync: DirectorySync | undefined;
  infrastructure: InfrastructureCertificates;
  mail: MailQueue;
  health: Health;
  close(): Promise<void>;
}

/** What tests put in the place of a real part. */
export interface Parts {
  storage?: Storage & { close(): Promise<void> };
  token?: Token;
  clock?: Clock;
  transport?: MailTransport;
  /** Instead of the one that ekms.yaml names. */
  people?: Directory;
  surroundings?: Surroundings;
}

export const placesOf = (configuration: Configuration, { root }: Installation) => ({
  run: join(configuration.home, 'run'),
  ...tokenFiles(configuration),
  rootCertificate: join(configuration.home, 'ca.pem'),
  tokenEntry: join(root, 'dist/programs/tokens/process/main.js'),
  pdfWorker: join(root, 'dist/programs/pdf/worker.js'),
  searchWorker: join(root, 'dist/programs/audit/search-worker.js'),
  kekHelper: join(root, 'dist/native/ekms-kek'),
});

/** What the token process is told; see src/tokens/process/settings.ts. */
export function tokenSettings(configuration: Configuration, installation: Installation) {
  const { token } = configuration;
  const places = placesOf(configuration, installation);
  return {
    module: token.module,
    label: token.label,
    pinFile: token.pinFile,
    profiles: join(installation.root, 'deploy/token-profiles'),
    profile: token.profile,
    ...(token.profile === 'softhsm' ? { softhsmConfig: places.softhsm.configuration } : {}),
    kekHelper: places.kekHelper,
    state: places.tokenState,
    socket: token.socket ?? join(places.run, 'token.sock'),
    workers: token.workers,
  };
}

/** The log's name on a new appliance: later ones begin with it. */
export const logName = ({ publicName }: Pick<Configuration, 'publicName'>): string => `${publicName}/v1/audit`;

/** CRL and issuer addresses that certificates carry, from the first day on. */
export function authorityUrls(configuration: Configuration): Record<AuthorityName, AuthorityUrls> {
  const base = `http://${configuration.publicName}:${configuration.listen.public.port}`;
  const of = (name: AuthorityName): AuthorityUrls => ({ crl: `${base}/crl/${name}.crl`, issuer: `${base}/certs/${name}.cer` });
  return { root: of('root'), people: of('people'), devices: of('devices'), infrastructure: of('infrastructure') };
}

/** Joins the rooms to their adapters. The only place that knows them all, besides `app.module.ts`. */
export async function openHouse(configuration: Configuration, installation: Installation, parts: Parts = {}): Promise<House> {
  const clock = parts.clock ?? new SystemClock();
  mkdirSync(placesOf(configuration, installation).run, { recursive: true, mode: 0o700 });
  const { url, passwordFile } = configuration.database;
  const database = { url, home: configuration.home, ...(passwordFile ? { passwordFile } : {}) };
  const storage = parts.storage ?? (await openStorage(database));
  const gatherer = parts.storage ? undefined : new SearchThread(placesOf(configuration, installation).searchWorker, database);
  let token = parts.token;
  let process: TokenProcess | undefined;
  try {
    if (!token) {
      process = new TokenProcess(
        configuration.token.socket
          ? { socket: configuration.token.socket }
          : { entry: placesOf(configuration, installation).tokenEntry, settings: tokenSettings(configuration, installation) },
      );
      await process.start();
      token = process;
    }
    const pages = readPages(installation.root, ['administration', 'staff']);
    const house = await joinRooms(configuration, { ...parts, clock, storage, token, gatherer });
    return {
      ...house,
      pages,
      pdf: documents(house, installation),
      close: async () => {
        await house.renewal.stop();
        await house.searchIndex.stop();
        await house.rotation.stop();
        await house.pool.stop();
        await house.mail.stop();
        await house.checkpoints.stop();
        await house.logCopy?.stop();
        await house.witnesses.stop();
        await process?.stop();
        await storage.close();
      },
    };
  } catch (error) {
    await process?.stop();
    await storage.close();
    throw error;
  }
}

async function joinRooms(
  configuration: Configuration,
  {
    clock,
    storage: database,
    token,
    transport,
    surroundings,
    people: directoryOfPeople,
    gatherer,
  }: Parts & { clock: Clock; storage: Storage; token: Token; gatherer: SearchThread | undefined },
): Promise<Omit<House, 'close' | 'pages' | 'pdf'>> {
  const storage = new SpendingStorage(database);
  const logStanding = new LogStanding((breach) => void sayBreach(log, breach));
  const sites = new Sites(configuration.networks);
  // Policies write entries themselves, so they come later.
  let policyVersion = () => 0;
  const policy = { version: () => policyVersion(), networkOf: (address: string) => sites.of(address) };
  const seal = await RowSeal.open(storage, token);
  const veil = new Veil((salt) => seal.mac('audit_sealed', { salt: base64url(salt) }));
  const audit = new BoundedAuditLog(
    new DurableAuditLog(clock, logStanding, undefined, policy, veil),
    clock,
    configuration.budgets.refusals.source,
  );
  const tree = new LogTree(storage);
  const logBook = new LogBook(storage, audit, tree, () => token.auditSuccessions());
  const origin = logName(configuration);
  await keepAuditKey(join(configuration.home, 'audit.pub'), token, origin);
  const witnessName = `${configuration.publicName}/v1/witness`;
  if (configuration.witnessing.logs.length > 0) await keepWitnessKey(join(configuration.home, 'witness.pub'), token, witnessName);
  const log = { storage, audit };
  const witnesses = witnessesOf(configuration, { ...log, tree, tiles: logBook.tiles, standing: logStanding, token }, origin);
  const checkpoints = new Checkpoints({
    ...{ tree, tiles: logBook.tiles, token, standing: logStanding, clock, origin },
    first: () => witnesses.first(),
  });
  const searchIndex = new SearchIndex(storage, gatherer);
  const sinks = sinksOf(configuration.forwarding, { log: origin, host: configuration.publicName });
  const auditSearch = new AuditSearch(storage, audit, searchIndex);
  const sealedEntries = new SealedEntries(storage, audit, clock, veil);
  const forwarder = new Forwarder(storage, audit, clock, sinks);
  const authorities = await Authorities.open(token, clock);
  const { root } = authorities;
  const urls = authorityUrls(configuration);
  const rootDigest = base64url(sha256(root));
  const infrastructureCertificates = new InfrastructureCertificates(storage, audit, token, clock, authorities, urls.infrastructure);
  const mail = new MailQueue({
    storage,
    audit,
    clock,
    transport: transport ?? mailTransport(configuration),
    signer: {
      certificates: async () => Object.values(await infrastructureCertificates.mailSigning(configuration.mail.from)),
      signMail: (message) => token.signMail(message),
    },
    sealer: token,
    from: configuration.mail.from,
  });
  const employees = new Employees(storage, audit, token, clock);
  const mailboxes = new SharedMailboxes(storage, audit, token, employees, clock);
  const apps = new AppCredentials(storage, audit, seal, clock, { publicName: configuration.publicName, rootDigest });
  const challenges = new EmailChallenge(storage, token, mail, clock, configuration.enrolment.minutes);
  const { listen } = configuration;
  const origins = new Origins(
    configuration.publicName,
    { administration: listen.administration.port, staff: listen.staff.port },
    configuration.origins,
  );
  const sessions = new Sessions(storage, audit, seal, clock, sessionLives(configuration));
  const passkeys = new Passkeys(storage, seal, clock, origins);
  const administrators = new Administrators(storage, audit, seal, passkeys, sessions, clock, token);
  await administrators.bootstrap.recall();
  const invitations = new Invitations({ ...log, seal, clock, origins, passkeys, sessions, administrators });
  const revocations = new RevocationLists(storage, audit, token, clock, authorities);
  const registry = new DeviceRegistry(storage, audit, token, revocations, clock, configuration.enrolment.devicesPerPerson);
  const { escrow } = configuration;
  const second = configuration.durability === 'two' && escrow ? new EscrowJournal(escrow.directory, token) : new OnePlace();
  const logCopy = second instanceof EscrowJournal && escrow ? new LogCopy(logBook, storage, escrow.directory, isMounted) : undefined;
  const backups = new Backups(storage, audit, token, clock, root, logBook.tiles, backupSettings(configuration));
  // The pool's `arrived` and the issuance need one another: the pair that arrives is for whoever waits.
  const pool: ReadyPool = new ReadyPool(
    storage,
    audit,
    token,
    {
      kind: { suite: 'rsa', bits: configuration.keys.bits },
      target: configuration.keys.pool.target,
      others: configuration.database.url.startsWith('sqlite:') ? 0 : 10_000,
    },
    () =>
      void issuance
        .serveWaiting()
        .then(() => premade.serve())
        .catch(() => {}),
    second,
  );
  const reader = new DocumentReader(storage, seal);
  const issuance: KeyIssuance = new KeyIssuance(
    storage,
    audit,
    token,
    pool,
    employees,
    clock,
    authorities,
    {
      mode: configuration.keys.mode,
      personDays: configuration.certificates.personDays,
      urls: urls.people,
    },
    reader,
    second,
  );
  const premade: PremadeKeys = new PremadeKeys(storage, issuance, pool);
  const versions = new ClientVersions(configuration.clients);
  const budgets = new Budgets(storage, audit, clock, configuration.budgets, sites);
  const vault = new KeyVault(storage, audit, token, issuance, budgets, clock, configuration.keys.mode, mailboxes, second);
  const replacement = new KeyReplacement(storage, audit, vault, issuance, revocations, employees);
  const addressCertificates = new AddressCertificates(
    storage,
    audit,
    token,
    employees,
    issuance,
    clock,
    {
      personDays: configuration.certificates.personDays,
      urls: urls.people,
    },
    authorities,
    second,
  );
  const renewal = new KeyRenewal(
    { storage, audit, clock, employees, vault, issuance, certificates: addressCertificates },
    configuration.certificates.renewal,
  );
  const directory = directoryOfPeople ?? directoryOf(configuration);
  const directorySync =
    directory &&
    new DirectorySync(
      { storage, audit, clock, directory, employees, endings: replacement, certificates: addressCertificates, premade },
      {
        domains: configuration.domains,
        leaversPercent: configuration.directory?.leaversPercent ?? 10,
        unlisted: configuration.directory?.unlisted ?? 'refuse',
      },
    );
  const base = `https://${configuration.publicName}:${configuration.listen.client.port}`;
  const announcements = new Announcements(storage, audit, mail, registry, clock, base, () => origins.of('staff'));
  const { device, deviceAuthoritiesFile, deviceRevocationsFile } = configuration.enrolment;
  const managing = readDeviceAuthorities(deviceAuthoritiesFile);
  const registered = new RegisteredDevices(storage, audit, seal, registry, clock, {
    device,
    authorities: managing,
    revocations: deviceRevocationsFile === undefined ? undefined : await DeviceRevocations.open(deviceRevocationsFile, managing),
    server: rootDigest,
  });
  const desk = new EnrolmentDesk(
    {
      storage,
      audit,
      token,
      apps,
      challenges,
      employees,
      mailboxes,
      issuance,
      registry,
      registered,
      announcements,
      budgets,
      versions,
      seal,
      clock,
      owners: directorySync,
    },
    {
      second: configuration.enrolment.second,
      windows: configuration.enrolment.windows,
      domains: configuration.domains,
      server: rootDigest,
      deviceDays: configuration.certificates.deviceDays,
      urls: urls.devices,
      authorities,
    },
  );
  const networks = new NetworkPolicies(log, seal, clock, policyOf(configuration), async () => !(await administrators.bootstrap.isOver()));
  policyVersion = () => networks.version;
  networks.follow(() => sites.follow(networks.policy.document.networks));
  const isolation = new IsolationGuard(surroundings ?? new ThisMachine(), () => networks.policy, log);
  const published = new CertificateDirectory(storage, authorities, clock);
  const transferKeys = new TransferKeys({ ...log, token, clock });
  const recoveryAgents = new RecoveryAgentRegister({ ...log, token, passkeys, administrators, origins, clock, root });
  const recoveries = new RecoveryCases({ ...log, token, employees, certificates: issuance, agents: recoveryAgents, mail, clock, budgets });
  const lives = new KeyLives({ ...log, token, replacement, clock, seal, authorities });
  const transfers = new KeyTransfers({ ...log, token, employees, agents: recoveryAgents, mail, lives, clock, authorities });
  const tls: House['tls'] = {};
  const rotation = new KekRotation({ storage, audit, token, clock, second, backups });
  const formerKeys = new FormerKeys({ storage, seal, token, kek: rotation, label: configuration.token.label });
  return {
    configuration,
    clock,
    storage,
    seal,
    audit,
    auditReader: new AuditReader(storage),
    logStanding,
    logBook,
    searchIndex,
    auditSearch,
    auditReports: new AuditReports(storage, audit, clock, searchIndex),
    sealedEntries,
    pruning: new Pruning(
      {
        ...{ storage, audit, clock, tree, checkpoints },
        needed: async () => {
          await searchIndex.catchUp();
          return [await searchIndex.next(), await forwarder.next(), await sealedEntries.first()];
        },
      },
      configuration.retention.auditYears,
    ),
    erasure: new Erasure({ storage, audit, index: searchIndex }),
    evidence: new EvidenceDesk({
      ...{ storage, audit, clock, search: auditSearch, checkpoints, book: logBook },
      policy: async () => policyInForce(configuration, networks),
      key: () => readFileSync(join(configuration.home, 'audit.pub'), 'utf8').trim(),
    }),
    keyUses: new KeyUses({
      storage,
      audit,
      tree,
      tiles: logBook.tiles,
      checkpoints,
      standing: logStanding,
      token,
      index: searchIndex,
      budgets,
    }),
    forwarder,
    checkpoints,
    witnesses,
    witnessedLogs: new WitnessedLogs(
      {
        ...{ ...log, token, clock },
        requireMemory: () => {
          if (logStanding.breach) logStanding.requireWhole();
        },
      },
      { name: witnessName, logs: configuration.witnessing.logs },
    ),
    headArchive: new HeadArchive(
      { ...log, tree, clock, mail: headMail(configuration, mail, clock) },
      configuration.witnesses.archive.everyHours,
    ),
    timeStamps: timeStampsOf(configuration, { ...log, tree, clock }),
    clockWatch: new ClockWatch(storage, audit, clock),
    logAcceptances: new LogAcceptances({
      ...{ storage, audit, tree, tiles: logBook.tiles, token, standing: logStanding, clock, origin },
      afterLoss: (kept) =>
        settleRestored(
          { storage, audit, token, employees, mailboxes, registry, pool, lives, recoveries, transfers },
          { backup: 'accepted', lost: 0, ...kept },
        ),
      agents: async () => (await recoveryAgents.inForce()).sealed,
      named: (name) => renameAuditKey(join(configuration.home, 'audit.pub'), token, name),
    }),
    token,
    authorities,
    second,
    logCopy,
    rotation,
    formerKeys,
    tokenKeys: new TokenKeyRotation({
      ...{ storage, audit, token, authorities, second, clock, urls },
      ready: async (name) => {
        await authorities.refresh();
        await revocations.publish(name);
        if (name === 'infrastructure') await tls.renew?.();
      },
    }),
    authorityRetirement: new AuthorityRetirement({ storage, audit, token, clock, authorities, revocations, registry }),
    auditKeyRotation: new AuditKeyRotation({
      ...{ storage, audit, clock, tree, tiles: logBook.tiles, checkpoints, token, witnessName },
      files: { audit: join(configuration.home, 'audit.pub'), witness: join(configuration.home, 'witness.pub') },
    }),
    tls,
    recoveries,
    recoveryAgents,
    transfers,
    transferKeys,
    acceptedTransfers: new AcceptedTransfers({ ...log, agents: recoveryAgents, clock, authorities }),
    lives,
    imports: new KeyImports({ ...log, token, employees, second, transferKeys, lives, clock, mode: configuration.keys.mode }),
    backups,
    apps,
    employees,
    mailboxes,
    deviceGuard: new DeviceGuard(registry, authorities, log, clock, versions),
    networks,
    budgets,
    origins,
    sessions,
    passkeys,
    administrators,
    signIn: new AdministratorSignIn({ ...log, clock, passkeys, sessions, administrators }),
    invitations,
    breakGlass: new BreakGlass({ ...log, seal, clock, mailer: mail, origins, administrators, invitations }, configuration.breakGlass),
    approvals: new Approvals({ storage, audit, seal, clock, passkeys, administrators }, configuration.approvals.hours),
    sessionGuard: new SessionGuard(sessions, administrators, log),
    staff: staffDoors(configuration, { ...log, clock, budgets, mailer: mail, seal, sessions, employees, origins, directory }),
    registry,
    registered,
    announcements,
    desk,
    vault,
    pool,
    issuance,
    replacement,
    renewal,
    addressCertificates,
    premade,
    directorySync,
    revocations,
    directory: published,
    reader,
    documentRecovery: new DocumentRecovery({
      ...log,
      ...{ token, employees, issuance, replacement, directory: published, agents: recoveryAgents, reader },
      domains: configuration.domains,
    }),
    infrastructure: infrastructureCertificates,
    mail,
    isolation,
    health: new Health(
      storage,
      token,
      pool,
      async () => !(await administrators.bootstrap.isOver()),
      isolation,
      logStanding,
      {
        get trouble() {
          return second.trouble ?? logCopy?.trouble;
        },
      },
      forwarder,
      witnesses,
      rotation,
      formerKeys,
    ),
  };
}

/** That the log is not the one that was signed is an entry of it too. */
async function sayBreach({ storage, audit }: Pick<House, 'storage' | 'audit'>, { code, known }: Breach): Promise<void> {
  const facts = { code, from: known.origin, size: known.size };
  await storage
    .write((unit) => audit.append(unit, { action: 'audit.breach', outcome: 'done', actor: { kind: 'system' }, facts }))
    .catch((error: unknown) => {
      if (!isFault(error)) throw error;
    });
}

function documents(house: Omit<House, 'close' | 'pages' | 'pdf'>, installation: Installation): PdfDesk {
  const { configuration, clock, directory, documentRecovery } = house;
  const { megabytes, recoveryCertificateFile, groups, encrypted } = configuration.documents;
  const places = placesOf(configuration, installation);
  return new PdfDesk(house, directory, new PdfWorkers(places.pdfWorker), documentRecovery, clock, {
    folder: places.run,
    most: megabytes * 2 ** 20,
    recovery: recoveryCertificateFile ? foreignCertificate(readFileSync(recoveryCertificateFile), clock.now()) : undefined,
    groups,
    encrypted,
  });
}

/** What decides who gets a key, as it stands; nothing of it is secret. */
function policyInForce(configuration: Configuration, networks: NetworkPolicies): Json {
  const { enrolment, clients, keys, budgets, approvals, durability, domains } = configuration;
  const { version, policy } = networks;
  return JSON.parse(
    JSON.stringify({ network: { version, ...policy.document }, domains, enrolment, clients, keys, budgets, approvals, durability }),
  );
}

function sessionLives({ sessions }: Configuration): Record<Audience, SessionLife> {
  const life = (of: { idleMinutes: number; hours: number }) => ({ idle: of.idleMinutes * 60_000, absolute: of.hours * 3_600_000 });
  return { administration: life(sessions.administration), staff: life(sessions.staff) };
}

function directoryOf({ directory }: Configuration): Directory | undefined {
  if (!directory) return undefined;
  if (directory.source === 'csv') return new CsvDirectory(directory.csvFile);
  const { caFile, ...settings } = directory;
  return new LdapDirectory({ ...settings, ...(caFile ? { caFile } : {}) });
}

function backupSettings(configuration: Configuration): BackupSettings {
  const { home, backup, database, token } = configuration;
  const { url, passwordFile } = database;
  return {
    ...backup,
    database: { url, home, ...(passwordFile ? { passwordFile } : {}) },
    token: { label: token.label, module: token.module, profile: token.profile },
    configuration: () => (existsSync(configurationFile(home)) ? readFileSync(configurationFile(home), 'utf8') : ''),
  };
}

function mailTransport({ mail }: Configuration): MailTransport {
  if (mail.transport === 'maildir') return new MaildirTransport(mail.directory);
  const { host, port, tls, user, passwordFile, caFile } = mail;
  return new SmtpTransport({
    host,
    port,
    tls: tls === 'implicit' ? 'tls' : tls,
    ...(user && passwordFile ? { user, passwordFile } : {}),
    ...(caFile ? { ca: readFileSync(caFile, 'utf8') } : {}),
  });
}
