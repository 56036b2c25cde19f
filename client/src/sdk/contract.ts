// Generated from the OpenAPI document by deploy/generate.sh: do not edit.

export interface ActArguments {
  args: Record<string, unknown>;
}

export interface ActOutcome {
  value: unknown;
}

export interface ActRequest {
  id: string;
  act: string;
  args: unknown;
  state: 'open' | 'approved' | 'expired' | 'spent' | 'done' | 'failed' | 'denied' | 'interrupted';
  /** Code of what its act ended in. */
  reason?: string;
  requester: {
    kind: 'operator' | 'administrator';
    id: string;
  };
  /** Whose approval it takes. */
  role: 'security-officer' | 'operator' | 'auditor' | 'recovery-agent';
  needed: number;
  /** What approvals sign: docs/formats/approvals.md. */
  hash: string;
  approvals: {
    administrator: string;
    at: string;
  }[];
  createdAt: string;
  expiresAt: string;
}

export interface Administrator {
  id: string;
  name: string;
  address: string;
  role: 'security-officer' | 'operator' | 'auditor' | 'recovery-agent' | null;
  createdAt: string;
  /** How many; two are asked for, so that losing one locks nobody out. */
  passkeys: number;
}

export interface AdministratorSession {
  id: string;
  administrator: string;
  network: string;
  beganAt: string;
  usedAt: string;
  endsAt: string;
  current: boolean;
}

export interface Approval {
  response: Assertion;
}

/** For PublicKeyCredential.parseRequestOptionsFromJSON */
export interface ApprovalOptions {
  challenge: string;
}

/** What navigator.credentials.get made, by its toJSON */
export interface Assertion {
  id: string;
  rawId: string;
  type: 'public-key';
  clientExtensionResults: Record<string, unknown>;
  response: {
    clientDataJSON: string;
    authenticatorData: string;
    signature: string;
    userHandle?: string | null;
  };
}

/** What navigator.credentials.create made, by its toJSON */
export interface Attestation {
  id: string;
  rawId: string;
  type: 'public-key';
  clientExtensionResults: Record<string, unknown>;
  authenticatorAttachment?: 'platform' | 'cross-platform' | null;
  response: {
    clientDataJSON: string;
    attestationObject: string;
    transports?: string[];
  };
}

/** Newest first. A page may be short or empty and still have a `next`. */
export interface AuditEntries {
  entries: AuditEntry[];
  /** Give it as `before` for older entries; absent at the end of the log. */
  next?: number;
}

export interface AuditEntry {
  index: number;
  /** Leaf hash, base64url: SHA-256(0x00 ‖ canonical JSON of `entry`) */
  leaf: string;
  /** What the leaf covers: docs/formats/audit-entry.md */
  entry: Record<string, unknown>;
  /** Values that digests in the entry stand for, as far as they were not erased */
  personal: Record<string, unknown>;
}

export interface AuditReport {
  report: 'releases' | 'unusual' | 'dormant' | 'recoveries';
  from: string;
  to: string;
  rows: Record<string, unknown>[];
}

export interface CertificateOfAddress {
  /** PEM */
  certificate: string;
  /** PEM: the authorities above it, without the root */
  chain: string[];
}

export interface Decryption {
  /** base64: RSA-OAEP of the content-encryption key under the delivery key. A wrong key or padding gives a random one. */
  wrapped: string;
  hash: 'sha1' | 'sha256';
  receipt: Receipt;
}

export interface DecryptionRequest {
  scheme: 'rsa-pkcs1' | 'rsa-oaep-sha1' | 'rsa-oaep-sha256';
  /** base64 */
  encryptedKey: string;
  /** Bytes of the content-encryption key. */
  length: 16 | 24 | 32;
}

export interface Device {
  id: string;
  platform: string;
  name: string | null;
  state: 'active' | 'frozen' | 'revoked';
  enrolledAt: string;
  /** Whether it is the device that asks. */
  current: boolean;
}

export type DeviceRegistration = {
  /** As the organisation’s list names the machine. */
  identifier: string;
} | {
  /** base64: DER: of the machine, by the organisation’s device management. */
  certificate: string;
  /** base64: By that certificate’s key, SHA-256, over the statement. */
  signature: string;
};

export interface EnrolledDevice {
  device: string;
  employee: string;
  /** PEM: the device certificate, then its authority. */
  certificates: string[];
}

export interface Enrolment {
  id: string;
  /** base64url: The half of the token that is not mailed. */
  half: string;
  /** base64: 32 bytes, by RSA-OAEP with SHA-256 under the delivery key. */
  nonce: string;
  expiresAt: string;
}

export interface EnrolmentAnswer {
  answer: string;
  /** base64url */
  signature: string;
  /** base64url */
  nonce: string;
}

export interface EnrolmentConfirmation {
  confirm: boolean;
}

export interface EnrolmentRequest {
  address: string;
  /** base64: PKCS#10, DER: the identity key, ECDSA P-256. */
  csr: string;
  /** base64: SubjectPublicKeyInfo, DER: RSA of 3072 bits or more. */
  delivery: string;
  platform: string;
  /** Of the client, such as 1.4.0. */
  version?: string;
  name?: string;
  registration?: DeviceRegistration;
}

export interface Health {
  status: 'ready' | 'unready';
  token: {
    /** sealed: waits for a PIN. refused: the PIN was wrong, nothing is tried again. */
    state: 'ready' | 'down' | 'sealed' | 'refused';
    reason?: string;
    /** Jobs waiting. */
    queued: number;
    /** Times that the token was lost and found again. */
    recoveries: number;
  };
  database: {
    state: 'ready' | 'down';
    reason?: string;
  };
  /** Key pairs ready, and wanted. */
  pool: {
    level: number;
    target: number;
  };
  /** Only when durability is two and the second place cannot be written: no key is born, no certificate issued. */
  secondPlace?: {
    state: 'down';
    reason: string;
  };
  /** What leads out of the isolated network; with enforce and any finding no keys are served. */
  isolation: {
    mode: 'warn' | 'enforce';
    findings: number;
  };
  /** One person alone can do what is dangerous: two security officers are not registered yet. */
  bootstrap: boolean;
  /** Where the log is sent to besides. A sink that fails is behind; nothing else waits for it. */
  forwarding?: ({
    sink: string;
    state: 'good' | 'failing';
    /** Entries that it has not got yet. */
    behind: number;
    reason?: string;
  })[];
  /** broken: the log is not the one that was signed. unwitnessed: no witness was reached to say so. No keys are released. */
  log: {
    state: 'whole' | 'broken' | 'unwitnessed';
    reason?: string;
  };
  /** Who remembers the log outside, and what they said last. */
  witnesses: ({
    name: string;
    state: 'unasked' | 'agrees' | 'disagrees' | 'away';
  })[];
  /** Only between kek rotate and kek retire: the key-encryption key that takes over, and keys and pairs that are not under it yet. */
  kekRotation?: {
    state: 'running' | 'finished';
    to: string;
    left: number;
  };
  /** What was replaced and still stands: a rotation is complete when that is destroyed. */
  former?: ({
    kind: 'token' | 'kek' | 'token-key';
    /** Label of the token that was left; the key-encryption key that took over; which of the token’s signing keys. */
    name: string;
    /** When it was replaced, where that is known. */
    since?: string;
  })[];
  /** Acts begun and not finished. */
  intents: number;
}

export interface InvitationAnswer {
  token: string;
  name?: string;
  address?: string;
  passkey: string;
  response: Attestation;
}

export interface InvitationToken {
  token: string;
  name?: string;
  address?: string;
}

export interface KeyUses {
  /** C2SP checkpoint, a signed note; it covers every entry here. */
  checkpoint: string;
  /** JWS, compact, by the delivery key: the key that checkpoints are signed with. */
  vouch: string;
  /** What both keys of the log signed each time that one took over from another (docs/formats/audit-log.md). */
  successions: string[];
  /** That the checkpoint extends the tree of `since` entries (RFC 9162 §2.1.4); null where there are fewer. */
  consistency: string[] | null;
  uses: ({
    index: number;
    /** The leaf, byte for byte (docs/formats/audit-entry.md). */
    entry: string;
    /** That the checkpoint covers it (RFC 9162 §2.1.3). */
    proof: string[];
    /** Opens the digest `personal.network` of the entry; null where there is none, or it was erased. */
    network: {
      /** base64url */
      salt: string;
      value: string;
    } | null;
    /** The same of `personal.reader`: who read the mail. */
    reader: {
      /** base64url */
      salt: string;
      value: string;
    } | null;
    /** The same of `personal.sealed`, from its date on: what the entry says (docs/formats/audit-entry.md). */
    sealed: {
      /** base64url */
      salt: string;
      value: string;
    } | null;
  })[];
  /** The entry `audit.prune` that says up to where entries were let go; null where none were. */
  pruned: {
    index: number;
    entry: string;
    proof: string[];
  } | null;
  /** Where to go on; null at the end. The last entries are this very reading. */
  next: number | null;
}

export interface Liveness {
  status: 'up';
}

export interface NewPasskey {
  name: string;
  response: Attestation;
}

/** OpenAPI 3.1 */
export interface OpenApiDocument {
  openapi: string;
  info: Record<string, unknown>;
  servers: Record<string, unknown>[];
  paths: Record<string, unknown>;
  components: Record<string, unknown>;
}

export interface PasskeyAnswer {
  response: Assertion;
}

/** For PublicKeyCredential.parse…OptionsFromJSON (WebAuthn level 3 §5.1) */
export interface PasskeyOptions {
  challenge: string;
}

export interface PdfReaders {
  encryption: 'none' | 'password' | 'certificates';
  readers: ({
    /** Of the certificate, hexadecimal */
    serial: string | null;
    /** base64: the Name of its issuer, DER */
    issuer: string | null;
    /** Hexadecimal, where the reader is named by it */
    keyIdentifier: string | null;
    /** you: one of your own certificates; recovery: the organisation, by recovery cases */
    is: 'you' | 'recovery' | null;
    /** What this reader's key opens, as `POST /v1/keys/{id}/decryptions` takes it; what comes out goes into `opening` of `POST /v1/pdf/encryptions` */
    key: {
      scheme: 'rsa-pkcs1' | 'rsa-oaep-sha1' | 'rsa-oaep-sha256';
      /** base64 */
      encryptedKey: string;
      length: 16 | 24 | 32;
    } | null;
  })[];
}

export interface PdfRecovery {
  /** PEM */
  current: string | null;
  /** PEM: current and former ones, and those whose keys lie elsewhere */
  certificates: string[];
  /** PEM: the authorities above `current`, without the root */
  chain: string[];
}

/** RFC 9457 */
export interface Problem {
  type: string;
  title: string;
  status: number;
  /** Stable; scripts may rely on it. */
  code: string;
  /** A sentence for people. */
  detail: string;
  /** The request's id, as the appliance's log has it. */
  instance: string;
}

/** Index and leaf hash of this very release in the appliance's log. */
export interface Receipt {
  index: number;
  /** base64url */
  leaf: string;
}

export interface RecipientStanding {
  address: string;
  state: 'valid' | 'expired' | 'revoked' | 'none';
  /** How many valid ones there are; the newest is used. */
  certificates: number;
}

export interface RecipientsAsk {
  recipients: string[];
}

export interface Recovered {
  /** base64: CMS EnvelopedData for this device; null for one mail. */
  delivery: string | null;
  /** base64: RSA-OAEP of the mail’s content-encryption key under the delivery key; null for a whole key. */
  wrapped: string | null;
  hash: 'sha1' | 'sha256' | null;
  receipt: Receipt;
}

export interface RecoveryCase {
  id: string;
  expiresAt: string;
  /** SHA-256, base64url, of the encrypted key of the one mail that it is about. */
  message: string | null;
  /** Any message of the person until then, one content key at a time. */
  reading: boolean;
  approvals: number;
  quorum: number;
  keys: {
    id: string;
    suite: string;
    state: string;
    /** PEM: every leaf of this key, newest first, then the issuing authority. */
    certificates: string[];
  }[];
}

export interface RecoveryOpening {
  key: string;
  /** Of the one mail that the case is about. */
  mail?: DecryptionRequest;
}

export interface ServedKey {
  id: string;
  suite: string;
  state: 'pending' | 'active' | 'deactivated' | 'compromised';
  mode: 'deliver' | 'remote';
  /** PEM: every leaf of this key, newest first, then the issuing authority; empty while pending. */
  certificates: string[];
  delivery: string | null;
  signature: string | null;
  receipt: Receipt | null;
  /** It came from outside, for reading old mail; its certificates are of other authorities. */
  imported?: true;
  /** Address of the shared mailbox whose key it is; its person is one of those who read it. */
  mailbox?: string;
  /** Why this very key is not handed out, while others are: the code of the refusal. */
  problem?: string;
}

export interface SignedIn {
  id: string;
  name: string;
  role: 'security-officer' | 'operator' | 'auditor' | 'recovery-agent' | null;
  /** Single acts are allowed: two security officers are not registered yet. */
  bootstrap: boolean;
  /** New officers are being made without two; any administrator can stop it (act break-glass.cancel). */
  breakGlass: {
    officers: {
      name: string;
      address: string;
    }[];
    opensAt: string;
  } | null;
  /** When the person last proved themself in full. */
  provedAt: string;
  endsAt: string;
  passkeys: ({
    id: string;
    name: string;
    createdAt: string;
    usedAt: string | null;
  })[];
}

export interface StaffCode {
  code: string;
}

export interface StaffCodeRequest {
  address: string;
}

export interface StaffCodeSent {
  id: string;
  expiresAt: string;
}

export interface StaffDecision {
  confirm: boolean;
}

export interface StaffEnrolment {
  id: string;
  platform: string;
  name: string | null;
  requestedAt: string;
}

export interface StaffMember {
  address: string;
  method: string;
  provedAt: string;
  endsAt: string;
}

export interface StaffPassword {
  address: string;
  password: string;
}

export interface StaffSignInMethods {
  methods: ('code' | 'oidc' | 'ldap')[];
}

export interface WaitingAnswer {
  state: 'waiting';
  for: 'device' | 'approval' | 'directory';
}

export interface WaitingEnrolment {
  id: string;
  address: string;
  platform: string;
  name: string | null;
  requestedAt: string;
}

export interface Welcome {
  id: string;
  name: string;
  role: 'security-officer' | 'operator' | 'auditor' | 'recovery-agent' | null;
}

/** Every code that a refusal may have. */
export type ProblemCode =
  | 'address-malformed'
  | 'address-not-ascii'
  | 'address-reserved'
  | 'address-taken'
  | 'administrator-unknown'
  | 'answer-wrong'
  | 'app-clock'
  | 'app-replayed'
  | 'app-signature-malformed'
  | 'app-signature-wrong'
  | 'app-unknown'
  | 'approved-already'
  | 'asn1-malformed'
  | 'audit-forked'
  | 'audit-rolled-back'
  | 'audit-token-older'
  | 'audit-unavailable'
  | 'audit-unwitnessed'
  | 'authority-unknown'
  | 'binding-changed'
  | 'binding-ended'
  | 'blob-corrupt'
  | 'blob-forged'
  | 'body-malformed'
  | 'body-too-large'
  | 'budget-exceeded'
  | 'certificate-unfit'
  | 'certificate-unknown'
  | 'challenge-unknown'
  | 'checkpoint-missing'
  | 'checkpoint-unsigned'
  | 'client-too-old'
  | 'cms-malformed'
  | 'cms-not-enveloped'
  | 'cosigning-unable'
  | 'crl-unknown'
  | 'cross-site'
  | 'csr-malformed'
  | 'csr-signature-wrong'
  | 'decision-forged'
  | 'defect'
  | 'delivery-key-foreign'
  | 'delivery-key-malformed'
  | 'delivery-key-weak'
  | 'device-blocked'
  | 'device-cap'
  | 'device-certificate-missing'
  | 'device-ended'
  | 'device-key-used'
  | 'device-over-budget'
  | 'device-unknown'
  | 'device-unregistered'
  | 'device-untrusted'
  | 'directory-proof-needed'
  | 'directory-unavailable'
  | 'disk-full'
  | 'document-recovery-missing'
  | 'domain-not-served'
  | 'duplicate'
  | 'employee-blocked'
  | 'enrolment-closed'
  | 'enrolment-denied'
  | 'enrolment-expired'
  | 'enrolment-spent'
  | 'enrolment-unknown'
  | 'entries-pruned'
  | 'field-too-large'
  | 'file-missing'
  | 'file-name-unfit'
  | 'freeze-unknown'
  | 'group-unknown'
  | 'identity-key-unfit'
  | 'invitation-unknown'
  | 'isolation-broken'
  | 'key-changed'
  | 'key-not-deliverable'
  | 'key-state'
  | 'key-unknown'
  | 'log-unknown'
  | 'mailbox-shared'
  | 'media-type'
  | 'no-recovery-agents'
  | 'not-the-owner'
  | 'pair-spent'
  | 'passkey-cloned'
  | 'passkey-hybrid'
  | 'passkey-last'
  | 'passkey-refused'
  | 'passkey-taken'
  | 'passkey-unknown'
  | 'path-too-long'
  | 'pdf-busy'
  | 'pdf-damaged'
  | 'pdf-encrypted'
  | 'pdf-excessive'
  | 'pdf-key-wrong'
  | 'pdf-not'
  | 'pdf-not-reader'
  | 'pdf-signed'
  | 'pdf-too-large'
  | 'pdf-truncated'
  | 'pdf-unsupported'
  | 'permission-missing'
  | 'permissions-unknown'
  | 'person-missing'
  | 'person-over-budget'
  | 'proof-needed'
  | 'proof-wrong'
  | 'recipients-missing'
  | 'recipients-too-many'
  | 'recipients-unresolved'
  | 'record-forged'
  | 'record-stale'
  | 'recovery-ended'
  | 'recovery-expired'
  | 'recovery-foreign'
  | 'recovery-not-approved'
  | 'recovery-unknown'
  | 'request-changed'
  | 'request-closed'
  | 'request-expired'
  | 'request-malformed'
  | 'request-unknown'
  | 'requester-approves'
  | 'role-missing'
  | 'route-unknown'
  | 'search-behind'
  | 'second-proof-needed'
  | 'sender-without-key'
  | 'session-elsewhere'
  | 'session-ended'
  | 'session-missing'
  | 'session-unknown'
  | 'sign-in-method-off'
  | 'sign-in-refused'
  | 'storage-busy'
  | 'storage-unavailable'
  | 'submission-malformed'
  | 'tile-unknown'
  | 'token-busy'
  | 'token-call-refused'
  | 'token-defect'
  | 'token-refused'
  | 'token-unavailable'
  | 'too-many-attempts';

export interface Routes {
  /** This document */
  'GET /api/openapi.json': { body: undefined; answers: { 200: OpenApiDocument } };
  /** The newest valid encrypting certificate of a mailbox (RFC 4387 §2.2) */
  'GET /certs': { body: undefined; answers: { 200: unknown } };
  /** The certificate of an authority (RFC 5280 §4.2.2.1) */
  'GET /certs/{file}': { body: undefined; answers: { 200: unknown } };
  /** The revocation list of an authority (RFC 5280 §5) */
  'GET /crl/{file}': { body: undefined; answers: { 200: unknown } };
  /** Whether the process answers at all */
  'GET /health/live': { body: undefined; answers: { 200: Liveness } };
  /** Whether keys can be handed out */
  'GET /health/ready': { body: undefined; answers: { 200: Health } };
  /** Figures for Prometheus */
  'GET /metrics': { body: undefined; answers: { 200: unknown } };
  /** Has an act of the operator’s table done, or files a request where it takes others */
  'POST /v1/admin/acts/{act}': { body: ActArguments; answers: { 200: ActOutcome; 202: ActRequest } };
  /** All administrators */
  'GET /v1/admin/administrators': { body: undefined; answers: { 200: Administrator[] } };
  /** Registers an invited person with their first passkey, and signs them in; the link is used up */
  'POST /v1/admin/invitations': { body: InvitationAnswer; answers: { 201: Welcome } };
  /** What an invited person makes a passkey with */
  'POST /v1/admin/invitations/options': { body: InvitationToken; answers: { 200: PasskeyOptions } };
  /** Who is signed in */
  'GET /v1/admin/me': { body: undefined; answers: { 200: SignedIn } };
  /** Adds a passkey to one’s own */
  'POST /v1/admin/passkeys': { body: NewPasskey; answers: { 204: undefined } };
  /** What one’s next passkey is made with */
  'POST /v1/admin/passkeys/options': { body: undefined; answers: { 200: PasskeyOptions } };
  /** Removes one of one’s own passkeys, but never the last */
  'DELETE /v1/admin/passkeys/{passkey}': { body: undefined; answers: { 204: undefined } };
  /** Proves it; for five minutes what is dangerous may be asked for */
  'POST /v1/admin/proofs': { body: PasskeyAnswer; answers: { 204: undefined } };
  /** What the person behind a session proves themself with again */
  'POST /v1/admin/proofs/options': { body: undefined; answers: { 200: PasskeyOptions } };
  /** Requests, the newest 200 */
  'GET /v1/admin/requests': { body: undefined; answers: { 200: ActRequest[] } };
  /** One request */
  'GET /v1/admin/requests/{id}': { body: undefined; answers: { 200: ActRequest } };
  /** Ends a request before it is done: by whoever asked, or might approve */
  'DELETE /v1/admin/requests/{id}': { body: undefined; answers: { 204: undefined } };
  /** Approves; the last approval has it done, unless the result is for the one who asked */
  'POST /v1/admin/requests/{id}/approvals': { body: Approval; answers: { 200: ActRequest } };
  /** What a passkey signs to approve this very request */
  'POST /v1/admin/requests/{id}/approvals/options': { body: undefined; answers: { 200: ApprovalOptions } };
  /** Has an approved request done, once, for the one who asked */
  'POST /v1/admin/requests/{id}/performance': { body: undefined; answers: { 200: ActOutcome } };
  /** One’s own sessions; to a security officer, everybody’s */
  'GET /v1/admin/sessions': { body: undefined; answers: { 200: AdministratorSession[] } };
  /** Ends a session: one’s own, or as a security officer anybody’s */
  'DELETE /v1/admin/sessions/{id}': { body: undefined; answers: { 204: undefined } };
  /** Signs an administrator in by passkey; a session of this browser before ends */
  'POST /v1/admin/sign-in': { body: PasskeyAnswer; answers: { 200: Welcome } };
  /** What an administrator signs in with */
  'POST /v1/admin/sign-in/options': { body: undefined; answers: { 200: PasskeyOptions } };
  /** Ends this session */
  'POST /v1/admin/sign-out': { body: undefined; answers: { 204: undefined } };
  /** The last signed head of the log (C2SP checkpoint) */
  'GET /v1/audit/checkpoint': { body: undefined; answers: { 200: unknown } };
  /** Entries of the log by what they say; the search is an entry too */
  'GET /v1/audit/entries': { body: undefined; answers: { 200: AuditEntries } };
  /** Keys released by day, unusual retrievals, dormant devices, or recoveries; reading it is an entry too */
  'GET /v1/audit/reports/{report}': { body: undefined; answers: { 200: AuditReport } };
  /** Up to 256 entries (C2SP entry bundle); reading them is an entry too */
  'GET /v1/audit/tile/entries/{name}': { body: undefined; answers: { 200: unknown } };
  /** Up to 256 hashes of the log’s tree (C2SP tile) */
  'GET /v1/audit/tile/{level}/{name}': { body: undefined; answers: { 200: unknown } };
  /** Valid encrypting certificates of an address */
  'GET /v1/certificates': { body: undefined; answers: { 200: CertificateOfAddress[] } };
  /** All devices, current and former, of the device's person */
  'GET /v1/devices': { body: undefined; answers: { 200: Device[] } };
  /** Ends the device that asks, for good */
  'DELETE /v1/devices/{id}': { body: undefined; answers: { 204: undefined } };
  /** Asks to enrol a device: a challenge goes to the address by mail. Known and unknown addresses get the same answer */
  'POST /v1/enrolments': { body: EnrolmentRequest; answers: { 201: Enrolment } };
  /** Further devices of the device's person that wait for a word from it */
  'GET /v1/enrolments': { body: undefined; answers: { 200: WaitingEnrolment[] } };
  /** Answers the challenge with both halves of its token; the same answer may be given again while it waits */
  'POST /v1/enrolments/{id}/answer': { body: EnrolmentAnswer; answers: { 200: EnrolledDevice; 202: WaitingAnswer } };
  /** Says yes or no to a further device of the same person */
  'POST /v1/enrolments/{id}/confirmation': { body: EnrolmentConfirmation; answers: { 204: undefined } };
  /** The page behind the link "this was not me"; looking at it changes nothing */
  'GET /v1/freezes/{token}': { body: undefined; answers: { 200: unknown } };
  /** Stops the device that the link is about */
  'POST /v1/freezes/{token}': { body: undefined; answers: { 200: unknown } };
  /** Every readable key of the device's person, sealed for this device; each delivery is an entry of the log */
  'GET /v1/keys': { body: undefined; answers: { 200: ServedKey[] } };
  /** Remote mode: opens one content-encryption key and seals it for this device */
  'POST /v1/keys/{id}/decryptions': { body: DecryptionRequest; answers: { 200: Decryption } };
  /** Every entry about the keys of the device's person, with proofs; reading them is such an entry too */
  'GET /v1/me/uses': { body: undefined; answers: { 200: KeyUses } };
  /** Documents encrypted to people; the sender is always among them */
  'POST /v1/pdf/encryptions': { body: undefined; answers: { 200: unknown } };
  /** Who can open a document, from the document alone (a POST because the document comes with it; nothing is kept) */
  'POST /v1/pdf/readers': { body: undefined; answers: { 200: PdfReaders } };
  /** How recipients stand, before anything is encrypted to them */
  'POST /v1/pdf/recipients': { body: RecipientsAsk; answers: { 200: RecipientStanding[] } };
  /** The organisation as a reader of documents: what a device encrypts every document to besides */
  'GET /v1/pdf/recovery': { body: undefined; answers: { 200: PdfRecovery } };
  /** Recovery cases for this device whose time is not over */
  'GET /v1/recoveries': { body: undefined; answers: { 200: RecoveryCase[] } };
  /** Has the token seal one key of an approved case, or the content key of its one mail, to this device; an entry each time */
  'POST /v1/recoveries/{id}/openings': { body: RecoveryOpening; answers: { 200: Recovered } };
  /** Mails a code; the answer is the same for every address */
  'POST /v1/staff/codes': { body: StaffCodeRequest; answers: { 202: StaffCodeSent } };
  /** Signs in by the mailed code, in the browser that asked for it */
  'POST /v1/staff/codes/{id}': { body: StaffCode; answers: { 204: undefined } };
  /** Devices that wait for this person’s word */
  'GET /v1/staff/enrolments': { body: undefined; answers: { 200: StaffEnrolment[] } };
  /** Says yes or no to a device that waits */
  'POST /v1/staff/enrolments/{id}/confirmation': { body: StaffDecision; answers: { 204: undefined } };
  /** Who is signed in */
  'GET /v1/staff/me': { body: undefined; answers: { 200: StaffMember } };
  /** Sends the browser to the organisation’s OpenID Connect provider */
  'GET /v1/staff/oidc': { body: undefined; answers: {  } };
  /** Where the provider sends the browser back to */
  'GET /v1/staff/oidc/callback': { body: undefined; answers: {  } };
  /** Signs in by the password of the organisation’s directory */
  'POST /v1/staff/passwords': { body: StaffPassword; answers: { 204: undefined } };
  /** Signs out */
  'DELETE /v1/staff/session': { body: undefined; answers: { 204: undefined } };
  /** How employees may sign in here */
  'GET /v1/staff/sign-in': { body: undefined; answers: { 200: StaffSignInMethods } };
  /** Cosigns a head of another appliance’s log that extends all that was seen of it (C2SP tlog-witness) */
  'POST /v1/witness/add-checkpoint': { body: undefined; answers: { 200: unknown } };
  /** The last head of another appliance’s log that was cosigned here */
  'GET /v1/witness/{log}/checkpoint': { body: undefined; answers: { 200: unknown } };
}
