import { createPublicKey, randomBytes } from 'node:crypto';
import {
  generateAuthenticationOptions,
  generateRegistrationOptions,
  verifyAuthenticationResponse,
  verifyRegistrationResponse,
} from '@simplewebauthn/server';
import { cose, decodeCredentialPublicKey } from '@simplewebauthn/server/helpers';
import { z } from 'zod';
import { type Origins, type Request, type RowSeal } from '../access/index.js';
import { base64url, type Clock, Fault, fromBase64, type Reader, type Storage, sha256, type Unit } from '../foundation/index.js';

export interface Passkey {
  /** Credential id, base64url. */
  id: string;
  administrator: string;
  /** COSE key (RFC 9052). */
  publicKey: Buffer;
  /** What its owner calls it. */
  name: string;
  transports: string[];
  created: number;
  counter: number;
  used: number | null;
}

/** What a ceremony is for; a challenge of one purpose proves nothing for another. */
export type Purpose = 'register' | 'sign-in' | 'prove' | 'approve';

/** A signature by a passkey over what it was asked for, fresh and verified. `settle` writes down that it was used. */
export interface Assertion {
  passkey: Passkey;
  counter: number;
  /** What the ceremony was about. */
  subject: string;
  nonce: Buffer;
  clientData: Buffer;
  authenticatorData: Buffer;
  signature: Buffer;
}

/** A passkey that was made and verified, not stored yet. */
export type FreshPasskey = Pick<Passkey, 'id' | 'publicKey' | 'transports' | 'counter'> & { subject: string; synced: boolean };

/** Milliseconds for a person to touch an authenticator. */
const LIFE = 5 * 60_000;
/** Challenges that wait at a time, of one network address. */
const MOST_OF_AN_ADDRESS = 50;
/** COSE algorithms (RFC 9053): ES256, EdDSA, RS256. */
const ALGORITHMS = [-7, -8, -257];
/** WebAuthn level 3 §5.8.7. "hybrid" is left out: a phone in between wants a server on the Internet. */
const HINTS = ['security-key', 'client-device'] as const;

const bytes = z.string().max(16_384);
const credential = {
  id: z.string().max(1_400),
  rawId: z.string().max(1_400),
  type: z.literal('public-key'),
  clientExtensionResults: z.looseObject({}),
};
const attachment = z.enum(['platform', 'cross-platform']).nullish();

/** PublicKeyCredential.toJSON() of a browser (WebAuthn level 3 §5.1): what is not needed passes unread. */
export const attestation = z
  .looseObject({
    ...credential,
    authenticatorAttachment: attachment,
    response: z.looseObject({
      clientDataJSON: bytes,
      attestationObject: bytes,
      transports: z.array(z.string().max(32)).max(8).default([]),
    }),
  })
  .meta({ id: 'Attestation', description: 'What navigator.credentials.create made, by its toJSON' });
export const assertion = z
  .looseObject({
    ...credential,
    response: z.looseObject({
      clientDataJSON: bytes,
      authenticatorData: bytes,
      signature: bytes,
      userHandle: z.string().max(200).nullish(),
    }),
  })
  .meta({ id: 'Assertion', description: 'What navigator.credentials.get made, by its toJSON' });

const clientData = z.looseObject({ challenge: z.string(), crossOrigin: z.boolean().optional() });

interface CeremonyRow {
  challenge: Buffer;
  purpose: Purpose;
  subject: string;
  nonce: Buffer;
  network: string;
  expires: number;
  mac: Buffer;
}

interface PasskeyRow {
  id: string;
  administrator: string;
  public_key: Buffer;
  name: string;
  transports: string;
  created: number;
  counter: number;
  used: number | null;
  mac: Buffer;
}

const sealedCeremony = (row: Omit<CeremonyRow, 'mac'>) => ({
  ...{ purpose: row.purpose, subject: row.subject, network: row.network, expires: row.expires },
  challenge: base64url(row.challenge),
  nonce: base64url(row.nonce),
});
const sealedPasskey = ({ id, administrator, public_key, name, transports, created }: Omit<PasskeyRow, 'mac' | 'counter' | 'used'>) => ({
  ...{ id, administrator, name, transports, created },
  publicKey: base64url(public_key),
});

const refused = () =>
  new Fault('unauthenticated', 'passkey-refused', 'this passkey is not taken here, or its answer does not fit what was asked');

/**
 * Passkeys (WebAuthn level 3): public keys of administrators' authenticators, bound to `publicName` and to the origin of the administration
 * listener, always with user verification. A challenge is kept here, sealed, and counts once: whatever answers it uses it up.
 */
export class Passkeys {
  constructor(
    private readonly storage: Storage,
    private readonly seal: RowSeal,
    private readonly clock: Clock,
    private readonly origins: Origins,
  ) {}

  /** Options for navigator.credentials.create, in their JSON form. @param subject what the ceremony is about, besides the person */
  async creationOptions(person: { id: string; name: string; shown: string }, subject: string, request: Request) {
    const { challenge } = await this.#begin('register', subject, request);
    const options = await generateRegistrationOptions({
      rpName: 'EKMS',
      rpID: this.origins.publicName,
      userID: new Uint8Array(Buffer.from(person.id, 'utf8')),
      userName: person.shown,
      userDisplayName: person.name,
      challenge: new Uint8Array(challenge),
      timeout: LIFE,
      attestationType: 'none',
      excludeCredentials: (await this.of(person.id)).map(({ id, transports }) => ({ id, transports })),
      authenticatorSelection: { residentKey: 'required', requireResidentKey: true, userVerification: 'required' },
      supportedAlgorithmIDs: ALGORITHMS,
    });
    return { ...options, hints: [...HINTS] };
  }

  /** Verifies what creationOptions led to. Rejects with `challenge-unknown`, `passkey-refused`, `passkey-hybrid`. */
  async attested(made: z.output<typeof attestation>, request: Request): Promise<FreshPasskey> {
    const { subject, challenge } = await this.#take('register', made.response.clientDataJSON, request);
    const { transports } = made.response;
    if (made.authenticatorAttachment === 'cross-platform' && transports.includes('hybrid'))
      throw new Fault(
        'forbidden',
        'passkey-hybrid',
        'a passkey on a phone beside this computer needs the Internet: use a security key or this computer',
      );
    const verified = await verifyRegistrationResponse({
      response: { ...made, response: { ...made.response, transports: [] } } as never, // the shape checked what it reads; types of browsers differ
      expectedChallenge: base64url(challenge),
      expectedOrigin: this.origins.of('administration'),
      expectedRPID: this.origins.publicName,
      requireUserVerification: true,
      supportedAlgorithmIDs: ALGORITHMS,
    }).catch(() => undefined);
    if (!verified?.verified) throw refused();
    const { credential, credentialDeviceType } = verified.registrationInfo;
    return {
      ...{ id: credential.id, publicKey: Buffer.from(credential.publicKey), counter: credential.counter, subject },
      transports: transports.filter((transport) => transport !== 'hybrid'),
      synced: credentialDeviceType === 'multiDevice',
    };
  }

  /** Rejects with `duplicate` when this passkey is somebody's already. */
  async insert(unit: Unit, fresh: FreshPasskey, administrator: string, name: string): Promise<void> {
    const created = this.clock.now().getTime();
    const row = { id: fresh.id, administrator, public_key: fresh.publicKey, name, transports: fresh.transports.join(' '), created };
    await unit.run(
      'INSERT INTO passkeys (id, administrator, public_key, name, transports, created, counter, used, mac) VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?)',
      [row.id, administrator, row.public_key, name, row.transports, created, fresh.counter, this.seal.mac('passkeys', sealedPasskey(row))],
    );
  }

  /**
   * Options for navigator.credentials.get. Without `allow`, whichever passkey the browser has for this name: the same answer for everybody.
   * @param binding bytes that the challenge is made of besides a nonce; a signature over it is one over them (`boundChallenge`)
   */
  async requestOptions(
    purpose: Exclude<Purpose, 'register'>,
    subject: string,
    request: Request,
    { allow = [], binding }: { allow?: readonly Passkey[]; binding?: Uint8Array } = {},
  ) {
    const { challenge } = await this.#begin(purpose, subject, request, binding);
    const options = await generateAuthenticationOptions({
      rpID: this.origins.publicName,
      challenge: new Uint8Array(challenge),
      allowCredentials: allow.map(({ id, transports }) => ({ id, transports })),
      timeout: LIFE,
      userVerification: 'required',
    });
    return { ...options, hints: [...HINTS] };
  }

  /**
   * Verifies what requestOptions led to. Rejects with `challenge-unknown` (never given, used, too old, for another purpose or from another
   * address), `passkey-refused` or `passkey-cloned`.
   */
  async asserted(purpose: Exclude<Purpose, 'register'>, given: z.output<typeof assertion>, request: Request): Promise<Assertion> {
    const { subject, nonce, challenge } = await this.#take(purpose, given.response.clientDataJSON, request);
    const passkey = await this.find(given.id);
    if (!passkey) throw refused();
    const { userHandle } = given.response;
    if (userHandle && Buffer.from(userHandle, 'base64url').toString('utf8') !== passkey.administrator) throw refused();
    const counter = await this.#verify(passkey, challenge, given);
    // WebAuthn level 3 §7.2 step 25: two authenticators with one key count apart. Some do not count at all.
    if ((counter > 0 || passkey.counter > 0) && counter <= passkey.counter)
      throw new Fault(
        'forbidden',
        'passkey-cloned',
        'this passkey has been used by another authenticator since: it was copied. Remove it, and say so to the others',
      );
    const { clientDataJSON, authenticatorData, signature } = given.response;
    return {
      ...{ passkey, counter, subject, nonce },
      clientData: Buffer.from(clientDataJSON, 'base64url'),
      authenticatorData: Buffer.from(authenticatorData, 'base64url'),
      signature: Buffer.from(signature, 'base64url'),
    };
  }

  /** Whether an assertion that was kept is this passkey's over this challenge; for whoever looks again later. */
  async holds(
    passkey: Passkey,
    challenge: Buffer,
    kept: Pick<Assertion, 'clientData' | 'authenticatorData' | 'signature'>,
  ): Promise<boolean> {
    const response = {
      clientDataJSON: base64url(kept.clientData),
      authenticatorData: base64url(kept.authenticatorData),
      signature: base64url(kept.signature),
    };
    return this.#verify(passkey, challenge, {
      id: passkey.id,
      rawId: passkey.id,
      type: 'public-key',
      clientExtensionResults: {},
      response,
    }).then(
      () => true,
      () => false,
    );
  }

  /** Writes the counter on, in the unit of what the assertion allowed. Rejects with `passkey-cloned` when another use came between. */
  async settle(unit: Unit, { passkey, counter }: Assertion): Promise<void> {
    const changed = await unit.run('UPDATE passkeys SET counter = ?, used = ? WHERE id = ? AND (counter < ? OR (counter = 0 AND ? = 0))', [
      counter,
      this.clock.now().getTime(),
      passkey.id,
      counter,
      counter,
    ]);
    if (changed === 0) throw new Fault('forbidden', 'passkey-cloned', 'this passkey was used, or removed, at the same time');
  }

  async find(id: string, reader: Reader = this.storage): Promise<Passkey | undefined> {
    const row = await reader.one<PasskeyRow>('SELECT * FROM passkeys WHERE id = ?', [id]);
    return row && this.#genuine(row) ? passkeyOf(row) : undefined;
  }

  /** Oldest first. */
  async of(administrator: string, reader: Reader = this.storage): Promise<Passkey[]> {
    const rows = await reader.all<PasskeyRow>('SELECT * FROM passkeys WHERE administrator = ? ORDER BY created, id', [administrator]);
    return rows.filter((row) => this.#genuine(row)).map(passkeyOf);
  }

  /** SubjectPublicKeyInfo, DER, of what is stored as COSE. */
  publicKeyOf({ publicKey }: Passkey): Buffer {
    const key = decodeCredentialPublicKey(new Uint8Array(publicKey));
    const jwk = jwkOf(key);
    if (!jwk) throw new Fault('malformed', 'passkey-refused', 'the key of this passkey is of no kind that is known here');
    return createPublicKey({ key: jwk, format: 'jwk' }).export({ format: 'der', type: 'spki' });
  }

  async remove(unit: Unit, id: string): Promise<void> {
    await unit.run('DELETE FROM passkeys WHERE id = ?', [id]);
  }

  #genuine(row: PasskeyRow): boolean {
    return this.seal.holds('passkeys', sealedPasskey(row), row.mac);
  }

  async #verify(passkey: Passkey, challenge: Buffer, given: z.output<typeof assertion>): Promise<number> {
    const verified = await verifyAuthenticationResponse({
      response: given as never, // as in `attested`
      expectedChallenge: base64url(challenge),
      expectedOrigin: this.origins.of('administration'),
      expectedRPID: this.origins.publicName,
      requireUserVerification: true,
      // The counter is judged by `asserted`, under a code of its own.
      credential: { id: passkey.id, publicKey: new Uint8Array(passkey.publicKey), counter: 0 },
    }).catch(() => undefined);
    if (!verified?.verified) throw refused();
    return verified.authenticationInfo.newCounter;
  }

  async #begin(purpose: Purpose, subject: string, request: Request, binding?: Uint8Array): Promise<{ challenge: Buffer }> {
    const nonce = randomBytes(32);
    const challenge = binding ? boundChallenge(binding, nonce) : nonce;
    const row = { challenge, purpose, subject, nonce, network: request.network, expires: this.clock.now().getTime() + LIFE };
    const mac = this.seal.mac('ceremonies', sealedCeremony(row));
    await this.storage.write(async (unit) => {
      // Anybody who reaches the listener may ask: one address's oldest give way, nobody else's.
      await unit.run(
        'DELETE FROM ceremonies WHERE network = ? AND challenge NOT IN (SELECT challenge FROM ceremonies WHERE network = ? ORDER BY expires DESC LIMIT ?)',
        [row.network, row.network, MOST_OF_AN_ADDRESS - 1],
      );
      await unit.run('INSERT INTO ceremonies (challenge, purpose, subject, nonce, network, expires, mac) VALUES (?, ?, ?, ?, ?, ?, ?)', [
        ...[challenge, purpose, subject, nonce, row.network, row.expires],
        mac,
      ]);
    });
    return { challenge };
  }

  /** Uses a challenge up, whatever comes of it. */
  async #take(purpose: Purpose, signed: string, request: Request): Promise<CeremonyRow> {
    const unknown = new Fault(
      'unauthenticated',
      'challenge-unknown',
      'this was not asked for, has been answered before, or took too long: begin again',
    );
    let told: z.output<typeof clientData>;
    try {
      told = clientData.parse(JSON.parse(Buffer.from(signed, 'base64url').toString('utf8')));
    } catch {
      throw unknown;
    }
    const challenge = fromBase64(told.challenge, 'base64url');
    if (!challenge || told.crossOrigin === true) throw unknown;
    const row = await this.storage.write(async (unit) => {
      const found = await unit.one<CeremonyRow>('SELECT * FROM ceremonies WHERE challenge = ?', [challenge]);
      await unit.run('DELETE FROM ceremonies WHERE challenge = ?', [challenge]);
      return found;
    });
    const fits =
      row?.purpose === purpose &&
      row.network === request.network &&
      this.clock.now().getTime() < row.expires &&
      this.seal.holds('ceremonies', sealedCeremony(row), row.mac);
    if (!fits) throw unknown;
    return row;
  }
}

/** SHA-256("ekms-approval:v1" ‖ 0x00 ‖ what is approved ‖ nonce): docs/formats/approvals.md. */
export const boundChallenge = (binding: Uint8Array, nonce: Uint8Array): Buffer => sha256('ekms-approval:v1\0', binding, nonce);

/** How the log names a passkey. */
export const passkeyDigest = (id: string): string => base64url(sha256(Buffer.from(id, 'base64url')));
export const passkeyFacts = ({ id, publicKey, synced }: FreshPasskey) => ({
  passkey: passkeyDigest(id),
  publicKey: base64url(sha256(publicKey)),
  synced,
});

const passkeyOf = (row: PasskeyRow): Passkey => ({
  ...{ id: row.id, administrator: row.administrator, publicKey: row.public_key, name: row.name, created: row.created },
  transports: row.transports === '' ? [] : row.transports.split(' '),
  counter: row.counter,
  used: row.used,
});

/** RFC 9053 §7 in the words of RFC 7518 and RFC 8037, for the algorithms that are taken here. */
function jwkOf(key: cose.COSEPublicKey): Record<string, string> | undefined {
  const text = (bytes: Uint8Array | undefined) => base64url(bytes ?? new Uint8Array());
  if (cose.isCOSEPublicKeyEC2(key))
    return { kty: 'EC', crv: 'P-256', x: text(key.get(cose.COSEKEYS.x)), y: text(key.get(cose.COSEKEYS.y)) };
  if (cose.isCOSEPublicKeyOKP(key)) return { kty: 'OKP', crv: 'Ed25519', x: text(key.get(cose.COSEKEYS.x)) };
  if (cose.isCOSEPublicKeyRSA(key)) return { kty: 'RSA', n: text(key.get(cose.COSEKEYS.n)), e: text(key.get(cose.COSEKEYS.e)) };
  return undefined;
}
